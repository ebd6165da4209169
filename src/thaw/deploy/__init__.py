"""Templates of SAM and CloudFormation, brought onto a server through the Lambda API.

::

    template = load(Path("template.yaml"), stack="hello", place=place, overrides={"Stage": "test"})
    plan = Planner(client, template).plan()      # reads only
    Deployment(client, plan, told).apply()       # everything, or nothing

What a stack owns is written into the tags of its functions (`thaw.deploy.ownership`), so that it can be deployed from
any machine.
"""
