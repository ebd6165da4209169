"""Terraform with the hashicorp/aws provider: plan, apply, no changes, a change of SnapStart, destroy.

The provider comes from the folder THAW_TERRAFORM_MIRROR (an unpacked filesystem mirror) where that is set, else from
where Terraform itself finds it.
"""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from clients.front import REGION, ROLE, package

pytestmark = pytest.mark.slow

CONFIGURATION = """
terraform {
  required_providers {
    aws = { source = "hashicorp/aws" }
  }
}

variable "endpoint" {}
variable "snap_start" { default = true }
variable "timeout" { default = 30 }

provider "aws" {
  region                      = "REGION"
  access_key                  = "test"
  secret_key                  = "test"
  skip_credentials_validation = true
  skip_metadata_api_check     = true
  skip_region_validation      = true
  skip_requesting_account_id  = true
  endpoints { lambda = var.endpoint }
}

resource "aws_lambda_layer_version" "library" {
  layer_name               = "library"
  filename                 = "layer.zip"
  source_code_hash         = filebase64sha256("layer.zip")
  compatible_runtimes      = ["python3.12", "python3.13"]
  compatible_architectures = ["x86_64"]
  description              = "What functions share"
  license_info             = "MIT"
}

resource "aws_lambda_layer_version_permission" "library" {
  layer_name     = aws_lambda_layer_version.library.layer_name
  version_number = aws_lambda_layer_version.library.version
  statement_id   = "all"
  action         = "lambda:GetLayerVersion"
  principal      = "*"
}

resource "aws_lambda_function" "function" {
  function_name                  = "terraformed"
  role                           = "ROLE"
  runtime                        = "python3.13"
  handler                        = "lambda_function.lambda_handler"
  filename                       = "function.zip"
  source_code_hash               = filebase64sha256("function.zip")
  description                    = "Made by Terraform"
  timeout                        = var.timeout
  memory_size                    = 256
  publish                        = true
  layers                         = [aws_lambda_layer_version.library.arn]
  reserved_concurrent_executions = 5
  tags                           = { team = "a" }
  # The provider reads ApplyOn "None" as no block at all, so that is how users switch SnapStart off.
  dynamic "snap_start" {
    for_each = var.snap_start ? ["PublishedVersions"] : []
    content { apply_on = snap_start.value }
  }
  environment { variables = { STAGE = "test" } }
  ephemeral_storage { size = 512 }
  tracing_config { mode = "Active" }
  logging_config {
    log_format            = "JSON"
    application_log_level = "INFO"
    system_log_level      = "WARN"
  }
  dead_letter_config { target_arn = "arn:aws:sqs:REGION:000000000000:dead" }
}

resource "aws_lambda_alias" "live" {
  name             = "live"
  function_name    = aws_lambda_function.function.function_name
  function_version = aws_lambda_function.function.version
}

resource "aws_lambda_permission" "api" {
  statement_id  = "api"
  action        = "lambda:InvokeFunction"
  function_name = aws_lambda_function.function.function_name
  principal     = "apigateway.amazonaws.com"
  source_arn    = "arn:aws:execute-api:REGION:000000000000:api/*"
  qualifier     = aws_lambda_alias.live.name
}

resource "aws_lambda_function_url" "live" {
  function_name      = aws_lambda_function.function.function_name
  qualifier          = aws_lambda_alias.live.name
  authorization_type = "NONE"
  cors {
    allow_origins  = ["https://a.example"]
    allow_methods  = ["GET", "POST"]
    expose_headers = ["date"]
    max_age        = 60
  }
}

resource "aws_lambda_function_event_invoke_config" "live" {
  function_name          = aws_lambda_function.function.function_name
  qualifier              = aws_lambda_alias.live.name
  maximum_retry_attempts = 1
}

output "optimized" { value = one(aws_lambda_function.function.snap_start[*].optimization_status) }
output "url" { value = aws_lambda_function_url.live.function_url }
output "version" { value = aws_lambda_function.function.version }
"""


class Terraform:
    """Terraform in one folder; every run must end with one of the statuses that it may have."""

    def __init__(self, folder: Path, endpoint: str) -> None:
        self._folder = folder
        self._environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(folder),
            "TF_IN_AUTOMATION": "1",
            "CHECKPOINT_DISABLE": "1",
            "TF_VAR_endpoint": endpoint,
            "TF_CLI_CONFIG_FILE": str(self._settings()),
        }

    def _settings(self) -> Path:
        """Terraform's own configuration: where the provider is."""
        mirror = os.environ.get("THAW_TERRAFORM_MIRROR")
        file = self._folder / "terraform.rc"
        given = Path(os.environ.get("TF_CLI_CONFIG_FILE") or Path.home() / ".terraformrc")
        if mirror:
            file.write_text(f'provider_installation {{\n  filesystem_mirror {{ path = "{mirror}" }}\n}}\n')
        elif given.is_file():
            return given.absolute()
        else:
            file.write_text("")
        return file

    def run(self, *words, status=0):
        done = self.attempt(*words)
        assert done.returncode == status, done.stdout + done.stderr
        return done.stdout

    def attempt(self, *words):
        command = ["terraform", words[0], "-no-color", *words[1:]]
        return subprocess.run(
            command, cwd=self._folder, env=self._environment, capture_output=True, text=True, timeout=300
        )


@pytest.fixture
def terraform(tmp_path, live):
    if shutil.which("terraform") is None:
        pytest.skip("terraform is not installed: what it does with this API is not tested here")
    folder = tmp_path / "terraform"
    folder.mkdir()
    (folder / "function.zip").write_bytes(package())
    (folder / "layer.zip").write_bytes(package(b"x = 1\n"))
    (folder / "main.tf").write_text(CONFIGURATION.replace("REGION", REGION).replace("ROLE", ROLE))
    made = Terraform(folder, live.url)
    ready = made.attempt("init", "-input=false")
    if ready.returncode != 0:
        pytest.skip(f"terraform has no provider hashicorp/aws (set THAW_TERRAFORM_MIRROR): {ready.stderr[-300:]}")
    return made


def test_a_function_with_everything_around_it(terraform, client):
    terraform.run("plan", "-detailed-exitcode", status=2)
    terraform.run("apply", "-auto-approve")
    assert client.get_alias(FunctionName="terraformed", Name="live")["FunctionVersion"] == "1"
    version = client.get_function_configuration(FunctionName="terraformed", Qualifier="1")
    assert version["SnapStart"] == {"ApplyOn": "PublishedVersions", "OptimizationStatus": "On"}
    assert ".lambda-url.us-east-1.localhost:" in terraform.run("output", "-raw", "url")
    unchanged = terraform.run("plan", "-detailed-exitcode")
    assert "No changes." in unchanged
    change = ("-var", "snap_start=false", "-var", "timeout=31")
    terraform.run("apply", "-auto-approve", *change)
    version = client.get_function_configuration(FunctionName="terraformed", Qualifier="live")
    assert (version["Version"], version["SnapStart"]["ApplyOn"], version["Timeout"]) == ("2", "None", 31)
    assert "No changes." in terraform.run("plan", "-detailed-exitcode", *change)
    terraform.run("destroy", "-auto-approve", *change)
    assert client.list_functions()["Functions"] == []
    assert client.list_layers()["Layers"] == []
