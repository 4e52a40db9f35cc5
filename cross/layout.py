"""Where code stands in what is shipped, as a linker script on the standard output: see cross/profile.

  cross/layout.py LLVM-PROFDATA PROFILE

The kernel maps the sixteen pages around each one that is run, so resident is what runs and its neighbours: it must not be
strewn among what never does. The profile is that of a gateway's days; its functions come first, then what is hot, what may
run, and at the end what the compiler takes for cold. It cannot be asked alone: where calls of a function are inlined, it
reckons how often the rest is called, and may come to never.
"""

import re
import subprocess
import sys

# Of the standard library, which no profile knows: called wherever something grows or is used first, and marked as cold.
GROWTH = ("finish_grow", "grow_amortized", "grow_one", "do_reserve_and_handle", "reserve_rehash", "get_or_init_slow",
          "detect_and_initialize", "4once", "with_capacity_in", "try_allocate_in", "DefaultHasher")

text = subprocess.run([sys.argv[1], "show", "--all-functions", "--counts", sys.argv[2]], check=True, stdout=subprocess.PIPE,
                      text=True).stdout
# Functions of one file only are `file;name`.
functions = re.findall(r"^  (?:\S*;)?(\S+):\n(?:    .*\n)*?    Block counts: \[(.*)\]$", text, re.M)
run = sorted({name for name, counts in functions if re.search("[1-9]", counts)})
if len(run) < 100:
    raise SystemExit(f"cross/layout.py: {len(run)} functions of {len(functions)} have run in {sys.argv[2]}")
print("SECTIONS {\n  .text.run : {")
for name in run:
    print(f'    *(".text.hot.{name}" ".text.{name}" ".text.unlikely.{name}")')
for name in GROWTH:
    print(f"    *(.text.unlikely.*{name}*)")
print("    *(.text.hot .text.hot.*)\n  }\n} INSERT BEFORE .text;")
print("SECTIONS {\n  .text.cold : { *(.text.unlikely .text.unlikely.* .text.split .text.split.*) }\n} INSERT AFTER .text;")
