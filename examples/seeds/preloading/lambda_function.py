# Import all dependencies outside of Lambda handler
from snapshot_restore_py import register_before_snapshot
import boto3
import pandas
import pydantic

# Create S3 and SSM clients outside of Lambda handler
s3_client = boto3.client("s3")

# Register the function to be called before snapshot
@register_before_snapshot
def download_llm_models():
  # Download an object from S3 and save to tmp
  # This files will persist in this snapshot
  with open('/tmp/FILE_NAME', 'wb') as f:
    s3_client.download_fileobj('amzn-s3-demo-bucket', 'OBJECT_NAME', f)
  ...

def lambda_handler(event, context):
  ...
