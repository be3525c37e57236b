"""People review pairs: a page on this machine alone, a journal an annotator, adjudication, Fleiss' kappa.

`records` holds what goes in and comes out, `ledger` what one person decided, `settling` what follows from all of them,
`agreement` how far they agree, `server` the page, `items` the miniature's pairs. A construction from models writes its
own items and reads the results back (`mis.construction.people`).
"""
