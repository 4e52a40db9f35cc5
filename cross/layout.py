"""Where code stands in what is shipped, as a linker script on the standard output: see cross/profile.

  cross/layout.py [LLVM-NM BINARY SEEN…]

The kernel maps the sixteen pages around each one that is run, so resident is what runs and its neighbours: it must not be
strewn among what never does. Each SEEN is a folder with QEMU's logs (in_asm) of processes of a BINARY whose functions have
names. Functions of the first come first, which every gateway runs, then those that only the second has, and so on; then what is
hot, what may run, and at the end what the compiler takes for cold. What it has split off a function because it never runs, and
which did nevertheless, stands behind the functions beside which it ran.
"""

import bisect
import collections
import pathlib
import re
import subprocess
import sys

# The kernel's window; no page is larger on the machines that this is for.
WINDOW_BYTES = 64 << 10
SPLIT = ".cold"


def functions(nm, binary):
    """The names of functions by address. QEMU does not know those that have been split off."""
    text = subprocess.run([nm, "--defined-only", binary], check=True, stdout=subprocess.PIPE, text=True).stdout
    found = collections.defaultdict(set)
    for address, name in re.findall(r"^([0-9a-f]+) [tTwW] ([^$\s]\S*)$", text, re.M):
        found[int(address, 16)].add(name)
    return found


def run(seen, named):
    """The functions that ran in a process."""
    text = seen.read_text()
    # Where the binary was loaded: by that by which most names that QEMU knows are away from where they are in the file.
    address = {name: at for at, names in named.items() for name in names}
    blocks = re.findall(r"^IN: (\S+) *\n0x([0-9a-f]+):", text, re.M)
    away = collections.Counter(int(at, 16) - address[name] for name, at in blocks if name in address)
    base = away.most_common(1)[0][0]
    begins = sorted(named)
    found = {bisect.bisect_right(begins, int(at, 16) - base) for at in re.findall(r"^0x([0-9a-f]+):", text, re.M)}
    return {name for at in found if at > 0 for name in named[begins[at - 1]]}


print(f"SECTIONS {{\n  .text.run : ALIGN({WINDOW_BYTES}) {{")
done = set()
named = functions(*sys.argv[1:3]) if len(sys.argv) > 1 else {}
for seen in sys.argv[3:]:
    names = set().union(*(run(process, named) for process in pathlib.Path(seen).iterdir()))
    if len(names) < 100:
        raise SystemExit(f"cross/layout.py: {len(names)} functions have run in {seen}")
    names, done = sorted(names - done), done | names
    for name in names:
        if not name.endswith(SPLIT):
            print(f'    *(".text.hot.{name}" ".text.{name}" ".text.unlikely.{name}")')
    for name in names:
        if name.endswith(SPLIT):
            print(f'    *(".text.split.{name.removesuffix(SPLIT)}")')
print("    *(.text.hot .text.hot.*)\n  }\n} INSERT BEFORE .text;")
print("SECTIONS {\n  .text.cold : { *(.text.unlikely .text.unlikely.* .text.split .text.split.*) }\n} INSERT AFTER .text;")
