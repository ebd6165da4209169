from snapshot_restore_py import register_before_snapshot, register_after_restore

@register_before_snapshot
def before_snapshot():
  # Code to run before snapshot
  print("Running before snapshot")

@register_after_restore
def after_restore():
  # Code to run after restore
  print("Running after restore")

def lambda_handler(event, context):
  print("Handler execution")
  # Your handler logic here
