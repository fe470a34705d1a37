"""`bench web`: its clients read what the server of the page sends, and its figures compare rounds."""

from __future__ import annotations

import pytest
from conftest import wait_until
from robot import new_namespace

pytest.importorskip("uvicorn", reason="uvicorn is not installed: pip install 'flash_vstream_ros[web]'")
pytest.importorskip("starlette", reason="starlette is not installed: pip install 'flash_vstream_ros[web]'")

from web_server import ENTRIES, hostile_node, served

from flash_vstream_ros.bench.web_clients import Clients, Round, figures


def test_clients_read_events_and_images_and_one_of_them_nothing() -> None:
    namespace = new_namespace()
    with hostile_node(namespace), served(namespace) as web:
        with Clients(web.port, 3) as clients:
            assert wait_until(lambda: clients.images >= 2 * ENTRIES)
            assert wait_until(lambda: len(web.board._viewers) == 3)
        assert clients.failures == []
        assert clients.events > 4
        assert wait_until(lambda: not web.board.watched)


def test_figures_compare_rounds_with_clients_to_rounds_without() -> None:
    without = Round(0, [0.2, 0.2, 0.4], [0.1], seconds=10.0, received=40, encoded=20, dropped=1)
    crowded = Round(20, [0.3], [0.1], seconds=20.0, received=80, encoded=20, dropped=2, events=5, server_bytes=2**20)
    found = figures([without, crowded, without, crowded])
    assert found["answer_with_over_without"] == pytest.approx(1.5)
    assert found["first_token_with_over_without"] == pytest.approx(1.0)
    assert found["received_with_over_without"] == pytest.approx(1.0)
    assert found["encoded_with_over_without"] == pytest.approx(0.5)
    assert (found["dropped"], found["events"], found["server_mib"]) == ([4, 2], 10, [1.0, 1.0])
