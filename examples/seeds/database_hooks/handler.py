# handler.py
import os
import psycopg2
from snapshot_restore import register_before_snapshot, register_after_restore

# Global state that will be snapshotted
config = None
db_connection = None

def load_config():
    """Load configuration from environment or Parameter Store."""
    global config
    config = {
        "db_host": os.environ.get("DB_HOST"),
        "db_name": os.environ.get("DB_NAME"),
        "db_user": os.environ.get("DB_USER"),
        "db_password": os.environ.get("DB_PASSWORD"),
    }

def connect_database():
    """Establish database connection."""
    global db_connection
    db_connection = psycopg2.connect(
        host=config["db_host"],
        dbname=config["db_name"],
        user=config["db_user"],
        password=config["db_password"]
    )

@register_before_snapshot
def before_snapshot():
    """
    Called before Lambda takes the snapshot.
    Close connections and clear sensitive state.
    """
    global db_connection
    if db_connection:
        db_connection.close()
        db_connection = None
    print("Closed database connection before snapshot")

@register_after_restore
def after_restore():
    """
    Called after Lambda restores from snapshot.
    Reestablish connections and refresh state.
    """
    connect_database()
    print("Reestablished database connection after restore")

# Initialization code runs once at publish time
load_config()
connect_database()

def handler(event, context):
    """Lambda handler function."""
    # db_connection is available and fresh
    cursor = db_connection.cursor()
    cursor.execute("SELECT NOW()")
    result = cursor.fetchone()
    return {
        "statusCode": 200,
        "body": f"Current time: {result[0]}"
    }
