"""Brokers of a test's own, made to be harmed: behind a proxy, or with a log on a small disk."""

from __future__ import annotations

from pathlib import Path

from stream_app.kafka_server import KafkaServer
from stream_app.local_ports import HOST, free_port
from tests.harness.proxy import Proxy
from tests.harness.small_disk import SmallDisk

LOG_DISK_MIB = 96

_LISTENERS = """\
listeners=PLAINTEXT://{host}:{port},CONTROLLER://{host}:{controller_port},PROXIED://{host}:{inner}
advertised.listeners=PLAINTEXT://{host}:{port},PROXIED://{host}:{outer}
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,PROXIED:PLAINTEXT
inter.broker.listener.name=PLAINTEXT
"""


class ProxiedKafka(KafkaServer):
    """A broker with a second listener that is reached, and advertised, through a proxy only."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self._inner, outer = free_port(), free_port()
        self.proxy = Proxy(outer, self._inner)

    def _write_properties(self, controller_port: int) -> None:
        super()._write_properties(controller_port)
        with (self.directory / "server.properties").open("a") as properties:
            properties.write(  # of two lines with the same name Kafka takes the last
                _LISTENERS.format(
                    host=HOST,
                    port=self.port,
                    controller_port=controller_port,
                    inner=self._inner,
                    outer=self.proxy.port,
                )
            )

    def __exit__(self, *exception: object) -> None:
        self.proxy.close()
        self.stop()


class SmallLogKafka(KafkaServer):
    """A broker whose log lies on a disk that can be filled."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self.disk = SmallDisk(self.directory / "data", LOG_DISK_MIB)

    def __exit__(self, *exception: object) -> None:
        self.stop()
        self.disk.close()
