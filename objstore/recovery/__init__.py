"""Getting the metadata back from the journals of nodes that lost their index, when no majority of owners is left.

`roster` says who is what, `merge` what the value of each register is, `plan` which map comes of it (all pure);
`pull` and `procedure` carry it out. Why it is right (INV-13, INV-14): objstore/ARCHITECTURE.md, "Recovery".
"""
