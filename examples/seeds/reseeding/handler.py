# handler.py
import secrets
import random
from snapshot_restore import register_after_restore

# Global RNG initialized during init
rng = random.Random()

@register_after_restore
def reseed_rng():
    """Reseed RNG with fresh entropy after restore."""
    rng.seed(secrets.randbits(128))

def handler(event, context):
    # rng now produces unique sequences per restore
    return {"random_value": rng.randint(0, 1000000)}
