"""The types of CloudFormation's resources that Thaw has itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from thaw.deploy.change import Change, Context
from thaw.deploy.resources import aliases, event_invoke, functions, layers, permissions, urls, versions
from thaw.deploy.template import Declared

Plan = Callable[[Context, Declared, Mapping[str, Any]], Change]
"""Compares a resource, its properties resolved, with what the server has. Reads only."""

KINDS: Mapping[str, Plan] = {
    "AWS::Lambda::Function": functions.plan,
    "AWS::Lambda::Version": versions.plan,
    "AWS::Lambda::Alias": aliases.plan,
    "AWS::Lambda::LayerVersion": layers.plan,
    "AWS::Lambda::LayerVersionPermission": layers.plan_permission,
    "AWS::Lambda::Permission": permissions.plan,
    "AWS::Lambda::Url": urls.plan,
    "AWS::Lambda::EventInvokeConfig": event_invoke.plan,
}
