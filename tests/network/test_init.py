"""torchvision can be imported whichever build of PyTorch stands beside it; prediction loads none of them."""

import subprocess
import sys


def imports(*lines):
    return subprocess.run([sys.executable, "-c", "\n".join(lines)], capture_output=True, text=True)


def test_torchvision_timm_and_lightning_import_after_the_networks():
    done = imports(
        "import sys, hubblefork.network.predictor",
        "assert not {'torchvision', 'timm', 'lightning'} & set(sys.modules)",
        "import torchvision, timm, lightning, torchmetrics",
    )
    assert done.returncode == 0, done.stderr
