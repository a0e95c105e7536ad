"""`deploy/security/kafka-acls.sh` as an administrator runs it, with Kafka's own tool behind it."""

from __future__ import annotations

import asyncio
import os
import re
from dataclasses import dataclass
from pathlib import Path

from orchestrator.dev.downloads import jar_folder, java_executable, kafka_jar_folder
from orchestrator.kafka_access import KafkaAccess
from tests.tidy.project import ROOT

SCRIPT = ROOT / "deploy/security/kafka-acls.sh"
TOOL = """\
#!/bin/sh
exec {java} -XX:TieredStopAtLevel=1 -XX:+UseSerialGC -cp '{jars}/*:{tools}/*' \\
  org.apache.kafka.tools.AclCommand "$@"
"""
"""What Kafka's bin/kafka-acls.sh comes to."""
CLIENT = """\
security.protocol=SASL_SSL
sasl.mechanism=SCRAM-SHA-512
sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required \\
  username="{name}" password="{password}";
ssl.truststore.type=PEM
ssl.truststore.location={authorities}
"""
RESOURCE = re.compile(r"resourceType=(\w+), name=(\S+), patternType=(\w+)\)")
RULE = re.compile(r"\(principal=(\S+), host=\*, operation=(\w+), permissionType=ALLOW\)")


def client_file(folder: Path, access: KafkaAccess) -> Path:
    assert access.sasl_password is not None
    file = folder / f"{access.sasl_username}.properties"
    file.touch(mode=0o600)
    password = access.sasl_password.get_secret_value()
    text = CLIENT.format(name=access.sasl_username, password=password, authorities=access.ca_file)
    file.write_text(text)
    return file


@dataclass
class Tool:
    """Kafka's own tool on a path of its own."""

    folder: Path
    access: KafkaAccess

    async def run(self, command: str, *arguments: str) -> tuple[int, str]:
        """Exit code, and all that was written."""
        process = await asyncio.create_subprocess_exec(
            command,
            *arguments,
            env={
                "PATH": f"{await asyncio.to_thread(self._programs)}:{os.environ['PATH']}",
                "BOOTSTRAP": self.access.servers,
                "COMMAND_CONFIG": str(client_file(self.folder, self.access)),
            },
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        written, _ = await process.communicate()
        assert process.returncode is not None
        return process.returncode, written.decode()

    def _programs(self) -> Path:
        tools = jar_folder(Path(__file__).with_name("kafka-tools.lock"), "kafka-tools", print)
        programs = self.folder / "programs"
        programs.mkdir(exist_ok=True)
        file = programs / "kafka-acls.sh"
        file.write_text(
            TOOL.format(java=java_executable(), jars=kafka_jar_folder(print), tools=tools)
        )
        file.chmod(0o755)
        return programs

    async def rules(self) -> list[dict[str, str]]:
        """Every allowance that the broker holds, as `kafka-acls.json` writes it."""
        listing = 'kafka-acls.sh --bootstrap-server "$BOOTSTRAP" --command-config "$COMMAND_CONFIG"'
        code, text = await self.run("bash", "-c", f"{listing} --list")
        assert code == 0, text
        found, resource = [], ("", "", "")
        for line in text.splitlines():
            if (heading := RESOURCE.search(line)) is not None:
                resource = heading.groups()
            elif (rule := RULE.search(line)) is not None:
                kind, name, pattern = resource
                found.append(
                    {
                        "principal": rule[1],
                        "operation": rule[2],
                        "resourceType": kind,
                        "resourceName": name,
                        "patternType": pattern,
                    }
                )
            else:
                assert not line.strip() or "(principal=" not in line, line
        return found
