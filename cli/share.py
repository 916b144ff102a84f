"""A link to an object that any browser opens."""

from typing import Annotated, Any

from typer import Option

from cli.api import call
from cli.cluster import AsJson, Dir, Endpoint
from cli.durations import parse_duration
from cli.objects import Version
from cli.output import console, errors_as_exit_codes, human_time, print_json, stderr
from cli.target import Bucket, Name, parse_object


def share(
    name: Name,
    expires: Annotated[str, Option(help="How long the link works.")] = "1h",
    version: Version = None,
    attachment: Annotated[bool, Option("--attachment", help="To save, not to show.")] = False,
    bucket: Bucket = None,
    directory: Dir = None,
    endpoint: Endpoint = None,
    as_json: AsJson = False,
) -> None:
    """Print a link to one version of an object; whoever has it may open it."""
    with errors_as_exit_codes():
        target = parse_object(name, bucket)
        body: dict[str, Any] = {"bucket": target.bucket, "key": target.key}
        body |= {"expires_s": parse_duration(expires), "attachment": attachment}
        if version is not None:
            body["version"] = version
        made = call(directory, endpoint, "POST", "/v1/shares", send=body)
        if as_json:
            print_json(made)
            return
        console().print(made["url"], markup=False)
        stderr().print(
            f"version {made['version']}, until {human_time(made['expires_at'])};"
            f" 'ossctl token revoke {made['jti']}' ends it",
            markup=False,
        )
