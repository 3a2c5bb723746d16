"""Write the versions of suite and policy into certification/suite/versions.py: `make versions`.

Run it after a change of what is asked, how it is graded or how a run is judged, and commit it with
the change. The number before the digest is for people: raise it by hand when the meaning of scores
changes so that they are no longer to be compared.
"""

import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from certification.suite.policy_digest import policy_digest  # noqa: E402
from certification.suite.suite_digest import suite_digest  # noqa: E402

if __name__ == "__main__":
    path = ROOT / "certification" / "suite" / "versions.py"
    source = path.read_text(encoding="utf-8")
    for name, digest in (("SUITE_VERSION", suite_digest()), ("POLICY_VERSION", policy_digest())):
        source = re.sub(rf'^({name} = "\d+-)[0-9a-f]+', rf"\g<1>{digest}", source, flags=re.M)
    path.write_text(source, encoding="utf-8")
    print(*re.findall(r'^\w+ = "[^"]+"', source, flags=re.M), sep="\n")
