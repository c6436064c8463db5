#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""In the VM: aligns the genes of families of bacteria with ClustalW, here (0) or in N clones.

    align.py prepare | align.py 0 | align.py N      see compare.sh
"""
import os
import subprocess
import sys
import tempfile
from typing import Dict, List, NamedTuple

import snowflock

GENES = "/data/16s.fa"
FAMILIES = int(os.environ.get("FAMILIES", "16"))  # so many …
MEMBERS = 4  # … of which the set has so many genes


class Gene(NamedTuple):
    number: str
    sequence: str


class Family(NamedTuple):
    name: str
    genes: List[Gene]


def read_families(path: str) -> List[Family]:
    """The genes of a FASTA file. Headers end in kingdom; phylum; class; order; family; genus."""
    families: Dict[str, List[Gene]] = {}
    with open(path, encoding="latin-1") as file:
        for record in file.read().split("\n>"):
            header, _, sequence = record.lstrip(">").partition("\n")
            lineage = header.split("\t")[-1].split("; ")
            if len(lineage) == 6:
                families.setdefault(lineage[4], []).append(
                    Gene(header.split()[0], sequence.replace("\n", "")))
    return [Family(name, genes) for name, genes in families.items()]


def choose(families: List[Family]) -> List[Family]:
    return [family for family in families if len(family.genes) == MEMBERS][:FAMILIES]


def align(family: Family) -> str:
    """What ClustalW makes of a family."""
    with tempfile.TemporaryDirectory() as folder:
        fasta, aligned = os.path.join(folder, "genes.fa"), os.path.join(folder, "genes.aln")
        with open(fasta, "w", encoding="ascii") as file:
            for gene in family.genes:
                file.write(f">{gene.number}\n{gene.sequence}\n")
        subprocess.run(["clustalw", f"-infile={fasta}", f"-outfile={aligned}"],
                       stdout=subprocess.DEVNULL, check=True)
        with open(aligned, encoding="ascii") as file:
            return f"{family.name}\n\n{file.read()}\n"


def main(how: str) -> None:
    families = choose(read_families(GENES))
    if how == "prepare":
        print(f"{len(families)} families of bacteria, {MEMBERS} genes (16S rRNA) in each",
              file=sys.stderr)
    elif how == "0":
        sys.stdout.writelines(align(family) for family in families)
    else:
        sys.stdout.writelines(snowflock.map(align, families, clones=int(how)))


main(sys.argv[1])
