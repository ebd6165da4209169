import json
import random

secure_rng = random.SystemRandom()

def lambda_handler(event, context):
  random_numbers = [secure_rng.random() for _ in range(10)]

  for number in random_numbers:
    print(number)

  return "Hello, World!"
