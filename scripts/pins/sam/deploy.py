# Copyright (c) vault-cloudkeys contributors
# SPDX-License-Identifier: MPL-2.0
"""Deploys a released stack to moto: packs it with sam, has SAM transform it as CloudFormation would, and creates the stack.

deploy.py DIRECTORY NAME=VALUE... prints in JSON what was made: the resources by their ids, the outputs, and what CloudFormation
was given. moto plays CloudFormation, S3, IAM, Lambda, SQS, Logs and Step Functions, and knows nothing of some resources.
"""

import json
import os
import pathlib
import subprocess
import sys

import boto3
from moto.server import ThreadedMotoServer
from samcli.yamlhelper import yaml_parse
from samtranslator.translator.transform import transform

os.environ.update(AWS_ACCESS_KEY_ID="test", AWS_SECRET_ACCESS_KEY="test", AWS_DEFAULT_REGION="eu-west-3", SAM_CLI_TELEMETRY="0")


def packaged(folder, endpoint):
    """What `sam package` makes of the folder's template: its files are in a bucket."""
    boto3.client("s3", endpoint_url=endpoint).create_bucket(
        Bucket="artifacts", CreateBucketConfiguration={"LocationConstraint": "eu-west-3"}
    )
    sam = pathlib.Path(sys.executable).parent / "sam"
    out = folder / "packaged.yaml"
    subprocess.run(
        [sam, "package", "--template-file", "template.yaml", "--s3-bucket", "artifacts", "--output-template-file", out],
        cwd=folder, env=os.environ | {"AWS_ENDPOINT_URL": endpoint}, check=True, stdout=sys.stderr,
    )
    return yaml_parse(out.read_text())


def deploy(folder, values, endpoint):
    template = packaged(folder, endpoint)
    defaults = {name: p["Default"] for name, p in template["Parameters"].items() if "Default" in p}
    unknown = values.keys() - template["Parameters"].keys()
    if unknown:
        sys.exit(f"the template has no parameters {sorted(unknown)}")
    template = transform(template, defaults | values, {})
    cloudformation = boto3.client("cloudformation", endpoint_url=endpoint)
    cloudformation.create_stack(
        StackName="cloudkeys", TemplateBody=json.dumps(template), Capabilities=["CAPABILITY_IAM"],
        Parameters=[{"ParameterKey": name, "ParameterValue": value} for name, value in values.items()],
    )
    stack = cloudformation.describe_stacks(StackName="cloudkeys")["Stacks"][0]
    resources = cloudformation.describe_stack_resources(StackName="cloudkeys")["StackResources"]
    functions = boto3.client("lambda", endpoint_url=endpoint).list_functions()["Functions"]
    return {
        "status": stack["StackStatus"],
        "outputs": {o["OutputKey"]: o["OutputValue"] for o in stack.get("Outputs", [])},
        "resources": {r["LogicalResourceId"]: r["ResourceType"] for r in resources if "LogicalResourceId" in r},
        "functions": {
            f["FunctionName"]: {"sha256": f["CodeSha256"], "architectures": f["Architectures"], "environment": f["Environment"]["Variables"]}
            for f in functions
        },
    }


if __name__ == "__main__":
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        endpoint = "http://{}:{}".format(*server.get_host_and_port())
        print(json.dumps(deploy(pathlib.Path(sys.argv[1]), dict(v.split("=", 1) for v in sys.argv[2:]), endpoint)))
    finally:
        server.stop()
