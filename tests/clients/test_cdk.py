"""What the real AWS CDK synthesizes, deployed twice."""

from __future__ import annotations

import importlib.util
import shutil

import pytest

from clients.front import ACCOUNT, REGION
from thaw.deploy.change import Action, Context
from thaw.deploy.deployment import deploy
from thaw.deploy.placeholders import Place
from thaw.deploy.plan import plan
from thaw.deploy.template import load

MISSING = importlib.util.find_spec("aws_cdk") is None or shutil.which("node") is None
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(MISSING, reason="the AWS CDK (aws-cdk-lib, and node) is not installed: it is not tested here"),
]


def synthesize(folder):
    """A stack with SnapStart behind an alias, a layer, a URL and an HTTP API; the template's path."""
    from aws_cdk import App, Stack, aws_apigatewayv2, aws_lambda
    from aws_cdk.aws_apigatewayv2_integrations import HttpLambdaIntegration

    (folder / "code").mkdir()
    (folder / "code" / "app.py").write_text("def handler(event, context): return event\n")
    code = aws_lambda.Code.from_asset(str(folder / "code"))
    app = App(outdir=str(folder / "cdk.out"))
    stack = Stack(app, "Shop")
    function = aws_lambda.Function(
        stack, "Fn", runtime=aws_lambda.Runtime.PYTHON_3_13, handler="app.handler", code=code, retry_attempts=1,
        snap_start=aws_lambda.SnapStartConf.ON_PUBLISHED_VERSIONS, environment={"STAGE": "test"},
        layers=[aws_lambda.LayerVersion(stack, "Layer", code=code)],
    )  # fmt: skip
    alias = aws_lambda.Alias(stack, "Live", alias_name="live", version=function.current_version)
    alias.add_function_url(auth_type=aws_lambda.FunctionUrlAuthType.NONE)
    api = aws_apigatewayv2.HttpApi(stack, "Api")
    api.add_routes(
        path="/x/{id}", methods=[aws_apigatewayv2.HttpMethod.GET], integration=HttpLambdaIntegration("I", alias)
    )
    app.synth()
    return folder / "cdk.out" / "Shop.template.json"


def test_a_synthesized_stack_is_deployed_and_then_nothing_changes(client, tmp_path):
    path = synthesize(tmp_path)

    def loaded():
        template = load(path, stack="shop", place=Place(REGION, ACCOUNT))
        return Context(client, template.place, "shop", template.codes), template

    assert deploy(*loaded(), lambda _: None).counts[Action.UPDATE] == 0
    (function,) = client.list_functions()["Functions"]
    live = client.get_function_configuration(FunctionName=function["FunctionName"], Qualifier="live")
    assert live["SnapStart"] == {"ApplyOn": "PublishedVersions", "OptimizationStatus": "On"}
    assert live["Environment"] == {"Variables": {"STAGE": "test"}}
    assert plan(*loaded()).is_empty
