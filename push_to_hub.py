"""Publish a finished checkpoint on the Hugging Face Hub.

    python push_to_hub.py outputs/gym99/video_text OWNER/NAME --dry-run   shows everything and sends nothing
    python push_to_hub.py outputs/gym99/video_text OWNER/NAME --tag v1.0
    python push_to_hub.py --all configuration/gym99 OWNER                 every finished checkpoint, and a Collection

`finegym push` is the same command, in `finegym/commands/push.py`.
"""

import sys

from finegym.commands.line import main


if __name__ == "__main__":
    sys.exit(main(["push", *sys.argv[1:]], prog="push_to_hub.py"))
