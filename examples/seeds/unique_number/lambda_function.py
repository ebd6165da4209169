import json
import random
import time

unique_number = None

def lambda_handler(event, context):
  seed = int(time.time() * 1000)
  random.seed(seed)
  global unique_number
  if not unique_number:
    unique_number = random.randint(1, 10000)

  print("Unique number: ", unique_number)

  return "Hello, World!"
