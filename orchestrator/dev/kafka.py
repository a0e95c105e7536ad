"""Apache Kafka in KRaft mode: one process that is broker and controller, from Maven jars.

Measured on two cores: a cold JVM is ready after 3.3 s; with an ahead-of-time cache of the loaded
classes (JEP 483/514, made once per machine) and the first compiler only, after 1.0 s and with 300
instead of 370 MB resident. The cache depends on the exact class path and JVM flags and is only an
optimisation: when it cannot be made or used, the broker starts without it.

A broker that was killed can only register again when its former session has ended: the session
timeout is 3 s instead of 9 s, so a start after a kill takes that long.
"""

from __future__ import annotations

import base64
import contextlib
import shutil
import signal
import subprocess
import tempfile
import time
import uuid
from pathlib import Path

from orchestrator.dev.downloads import (
    Progress,
    install_once,
    java_executable,
    kafka_jar_folder,
)
from orchestrator.dev.kafka_security import KafkaSecurity
from orchestrator.dev.ports import assign_ports, is_listening
from orchestrator.dev.processes import Part, StackError, Supervisor
from orchestrator.kafka_access import KafkaAccess

JVM_FLAGS = (
    "-Xmx512m",
    "-XX:+UseSerialGC",
    "-XX:TieredStopAtLevel=1",
    "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
    "-Dorg.slf4j.simpleLogger.showDateTime=true",
    "-Dorg.slf4j.simpleLogger.dateTimeFormat=HH:mm:ss.SSS",
)

_SETTINGS = """\
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:{controller_port}
listeners=BROKER://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller_port}
advertised.listeners=BROKER://127.0.0.1:{port}
listener.security.protocol.map=BROKER:PLAINTEXT,CONTROLLER:PLAINTEXT
inter.broker.listener.name=BROKER
controller.listener.names=CONTROLLER
log.dirs={data}
auto.create.topics.enable=false
default.replication.factor=1
min.insync.replicas=1
offsets.topic.replication.factor=1
offsets.topic.num.partitions=4
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=4
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
share.coordinator.state.topic.num.partitions=1
group.initial.rebalance.delay.ms=0
log.index.size.max.bytes=1048576
log.segment.bytes=134217728
broker.heartbeat.interval.ms=500
broker.session.timeout.ms=3000
num.network.threads=2
num.io.threads=4
background.threads=2
log.cleaner.dedupe.buffer.size=8388608
"""


class Kafka(Part):
    """One broker; `bootstrap_servers` is what clients need."""

    stop_timeout_seconds = 20

    def __init__(
        self,
        supervisor: Supervisor,
        folder: Path,
        *,
        port: int,
        controller_port: int,
        progress: Progress,
        security: KafkaSecurity | None = None,
    ) -> None:
        super().__init__("kafka", supervisor, folder)
        self._security = security
        self.port = port
        self._controller_port = controller_port
        self._progress = progress

    @property
    def bootstrap_servers(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def access(self) -> KafkaAccess:
        return KafkaAccess(self.bootstrap_servers)

    def _start(self) -> None:
        jars = kafka_jar_folder(self._progress)
        settings = _write_settings(self.folder, self.port, self._controller_port)
        if self._security is not None:
            more = self._security.settings(self.port, self._controller_port)
            settings.write_text(settings.read_text() + more)
        if not (self.folder / "data" / "meta.properties").exists():
            shutil.rmtree(self.folder / "data", ignore_errors=True)
            command = [*_java(jars, None), "kafka.tools.StorageTool", "format"]
            command += ["-t", _new_cluster_id(), "-c", str(settings)]
            command += self._security.format_arguments() if self._security else []
            self._supervisor.run("kafka-format", command, log=self.log, cwd=self.folder)
        cache = _class_cache(jars, self._progress)
        try:
            self._launch(jars, cache, settings)
        except StackError:
            if cache is None:
                raise
            self._progress("Kafka does not start with its class cache, trying without")
            self._launch(jars, None, settings)

    def _launch(self, jars: Path, cache: Path | None, settings: Path) -> None:
        command = [*_java(jars, cache), "kafka.Kafka", str(settings)]
        self._child = self._supervisor.start("kafka", command, log=self.log, cwd=self.folder)
        self._wait_until(lambda: is_listening(self.port), 60)


def _write_settings(folder: Path, port: int, controller_port: int) -> Path:
    path = folder / "server.properties"
    path.write_text(
        _SETTINGS.format(port=port, controller_port=controller_port, data=folder / "data")
    )
    return path


def _new_cluster_id() -> str:
    """One UUID in 64 begins with a dash in this form, which the tool takes for an option."""
    while True:
        found = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
        if not found.startswith("-"):
            return found


def _java(jars: Path, cache: Path | None) -> list[str]:
    """The command up to the main class; the class path is spelt out, as the cache needs it."""
    class_path = ":".join(str(path) for path in sorted(jars.glob("*.jar")))
    flags = [f"-XX:AOTCache={cache}", "-Xlog:all=off"] if cache else []
    return [str(java_executable()), *JVM_FLAGS, *flags, "-cp", class_path]


def _class_cache(jars: Path, progress: Progress) -> Path | None:
    """The AOT cache file for these jars and flags, made by one short run of a throw-away broker."""
    java = java_executable()
    release = (java.parent.parent / "release").read_text()
    key = "\n".join((str(jars), str(java), release, *JVM_FLAGS))

    def build(folder: Path) -> None:
        progress("preparing Kafka's class cache, once, about 12 s")
        with tempfile.TemporaryDirectory(prefix="kafka-training-") as scratch:
            _train(jars, Path(scratch), folder / "kafka.aot")

    try:
        return install_once("kafka-classes", key, build, progress) / "kafka.aot"
    except (StackError, OSError, subprocess.SubprocessError) as error:
        progress(f"no class cache for Kafka, it starts slower: {error}")
        return None


def _train(jars: Path, scratch: Path, output: Path) -> None:
    ports = assign_ports(["broker", "controller"], {}, scratch / "ports.json")
    settings = _write_settings(scratch, ports["broker"], ports["controller"])
    command = _java(jars, None)
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    form = ["kafka.tools.StorageTool", "format", "-t", _new_cluster_id(), "-c", str(settings)]
    subprocess.run([*command, *form], check=True, timeout=60, **quiet)  # type: ignore[call-overload]
    java, *rest = command
    arguments = [java, f"-XX:AOTCacheOutput={output}", *rest, "kafka.Kafka", str(settings)]
    with subprocess.Popen(
        arguments, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as broker:
        try:
            deadline = time.monotonic() + 60
            while not is_listening(ports["broker"]):
                if broker.poll() is not None or time.monotonic() > deadline:
                    raise StackError("the training run did not start")
                time.sleep(0.05)
            time.sleep(0.5)
            broker.send_signal(signal.SIGTERM)
            broker.wait(90)
        finally:
            with contextlib.suppress(ProcessLookupError):
                broker.kill()
    if not output.exists():
        raise StackError("the training run left no cache")
