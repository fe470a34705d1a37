#!/usr/bin/env python3
"""Write docs/images/live_view.png: the page of `flash-vstream-ros web` after the demo's patrol, in headless Chromium.

python scripts/live_view_picture.py                      # the picture of the documentation
python scripts/live_view_picture.py --dark --out dark.png
python scripts/live_view_picture.py --phone --out phone.png
"""

from __future__ import annotations

import argparse
import io
import re
import sys
import tempfile
import time
from pathlib import Path

from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from flash_vstream_ros.demo.simulated_run import process, simulated_run  # noqa: E402
from flash_vstream_ros.instruments.browser import browser, browser_program  # noqa: E402
from flash_vstream_ros.models.names import HOUSEHOLD  # noqa: E402
from flash_vstream_ros.ros.middleware import use_shipped_profile  # noqa: E402
from flash_vstream_ros.ros.private_domain import use_private_domain  # noqa: E402

SEED = 3
ASKED = ("green chair", "search"), ("Where did you see the red ball?", "ask")
LOADED = "document.querySelectorAll('#strip img[src]').length > 5 && document.querySelector('.picture img[src]')"
ANSWERED = "document.querySelector('.turn') && !document.querySelector('.turn.running')"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "images" / "live_view.png")
    parser.add_argument("--dark", action="store_true")
    parser.add_argument("--phone", action="store_true")
    args = parser.parse_args()
    program = browser_program()
    if program is None:
        sys.exit("no Chromium is on PATH: apt-get install chromium")
    use_private_domain()
    use_shipped_profile()
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "web.log"
        with (
            process(["web", "--port", "0"], log),
            simulated_run(SEED, HOUSEHOLD, 12.0),
            browser(program) as chromium,
        ):
            found = re.search(r"serving (\S+)", log.read_text())
            assert found, log.read_text()
            page = chromium.new_page()
            width, height = (390, 844) if args.phone else (1280, 800)
            page.show(width, height, scale=1.5, dark=args.dark, phone=args.phone)
            page.open(found[1])
            page.wait_for(LOADED)
            for text, kind in ASKED:
                page.evaluate(f"document.getElementById('question').value = {text!r}")
                page.evaluate(f"document.querySelector('button[value={kind}]').click()")
                page.wait_for(ANSWERED)
            time.sleep(3.0)  # until everything is drawn
            picture = page.screenshot(whole=True)
    # With 256 colours the file has a third of its size.
    Image.open(io.BytesIO(picture)).convert("RGB").quantize(256).save(args.out, optimize=True)
    print(f"wrote {args.out}, {args.out.stat().st_size} bytes")


if __name__ == "__main__":
    main()
