# Copyright (c) vault-cloudkeys contributors
# SPDX-License-Identifier: MPL-2.0
"""Reads the roles of the template that CloudFormation gets, which has those that SAM makes by itself.

Each must take the permissions boundary, and no statement may reach more than it must: no action with an asterisk, no resource that
is one, no policy of AWS's but the ones that are named here with their reason.
"""

import json
import os
import sys

from samcli.yamlhelper import yaml_parse
from samtranslator.translator.transform import transform

# Lambda itself makes and removes the network interfaces in a VPC; EC2 knows no narrower resource for most of these calls.
MANAGED = {"arn:${AWS::Partition}:iam::aws:policy/service-role/AWSLambdaENIManagementAccess"}


def transformed(path):
    with open(path, encoding="utf-8") as file:
        template = yaml_parse(file.read())
    for function in template["Resources"].values():
        if function["Type"] == "AWS::Serverless::Function":
            function["Properties"]["CodeUri"] = "s3://bucket/code.zip"
        if function["Type"] == "AWS::Serverless::StateMachine":
            function["Properties"]["DefinitionUri"] = "s3://bucket/machine.json"
    template.get("Globals", {}).get("Function", {}).pop("CodeUri", None)
    os.environ.setdefault("AWS_DEFAULT_REGION", "eu-west-3")  # which samtranslator wants to know
    values = {name: p.get("Default", "https://vault.example.com") for name, p in template["Parameters"].items()}
    return transform(template, values, {})


def values(node):
    """All branches of Fn::If, flattened."""
    if isinstance(node, dict) and "Fn::If" in node:
        return [v for branch in node["Fn::If"][1:] for v in values(branch)]
    if isinstance(node, list):
        return [v for item in node for v in values(item)]
    return [node]


def name(node):
    return node.get("Fn::Sub", json.dumps(node)) if isinstance(node, dict) else str(node)


def problems(template):
    for role, resource in template["Resources"].items():
        properties = resource.get("Properties", {})
        if resource["Type"] != "AWS::IAM::Role":
            continue
        if "PermissionsBoundary" not in properties:
            yield f"{role} takes no permissions boundary"
        for policy in values(properties.get("ManagedPolicyArns", [])):
            if policy != {"Ref": "AWS::NoValue"} and name(policy) not in MANAGED:
                yield f"{role} has the policy {name(policy)}"
        for policy in properties.get("Policies", []):
            for statement in values(policy["PolicyDocument"]["Statement"]):
                if statement == {"Ref": "AWS::NoValue"} or statement["Effect"] != "Allow":
                    continue
                for action in values(statement["Action"]):
                    if "*" in action:
                        yield f"{role} may call {action}"
                for target in values(statement["Resource"]):
                    if name(target) == "*":
                        yield f"{role} may call {statement['Action']} on everything"


if __name__ == "__main__":
    cloudformation = transformed(sys.argv[1])
    roles = [r for r in cloudformation["Resources"].values() if r["Type"] == "AWS::IAM::Role"]
    found = list(problems(cloudformation))
    if len(roles) < 4:
        found.append(f"{len(roles)} roles were read: two functions, a state machine and the schedules have more")
    print("\n".join(found), file=sys.stderr)
    sys.exit(bool(found))
