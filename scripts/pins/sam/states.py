# Copyright (c) vault-cloudkeys contributors
# SPDX-License-Identifier: MPL-2.0
"""Lints state machines: their schema, and where their transitions and paths lead.

cfn-lint's E3601 knows the schema of Amazon States Language with all that AWS has added, but
checks only a definition within a template, and follows no transition. statelint follows them
(missing and unreachable states) and reads paths, but its grammar is older than two
fields of distributed maps, which it is not shown.
"""

import json
import pathlib
import subprocess
import sys
import tempfile

BIN = pathlib.Path(sys.executable).parent


def as_template(definition):
    properties = {"RoleArn": "arn:aws:iam::123456789012:role/lint", "Definition": definition}
    return {"Resources": {"Machine": {"Type": "AWS::StepFunctions::StateMachine", "Properties": properties}}}


def without_news(value):
    """Takes out what statelint refuses: Label and InputType, and percentages with a fraction."""
    if isinstance(value, list):
        return [without_news(v) for v in value]
    if not isinstance(value, dict):
        return value
    kept = {k: without_news(v) for k, v in value.items() if k not in ("Label", "InputType")}
    if "ToleratedFailurePercentage" in kept:
        kept["ToleratedFailurePercentage"] = int(kept["ToleratedFailurePercentage"])
    return kept


def lint(path):
    # The lint knows the ARNs of one partition alone.
    definition = json.loads(pathlib.Path(path).read_text().replace("${Partition}", "aws"))
    with tempfile.TemporaryDirectory() as folder:
        template, plain = pathlib.Path(folder, "template.json"), pathlib.Path(folder, "states.json")
        template.write_text(json.dumps(as_template(definition)))
        plain.write_text(json.dumps(without_news(definition)))
        commands = [[BIN / "cfn-lint", "-t", template, "-c", "I"], [BIN / "statelint", plain]]
        return [subprocess.run(command, check=False).returncode for command in commands]


if __name__ == "__main__":
    codes = [code for path in sys.argv[1:] for code in lint(path)]
    sys.exit(any(codes) or not codes)
