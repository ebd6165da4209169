"""The Lambda wire protocol (REST-JSON, 2015-03-31), compiled at start-up from botocore's service model.

Nothing of the API's shapes is written by hand here: routes, members, limits, enums, patterns and the status of each
error come from the model, so a newer botocore brings newer operations with it.
"""
