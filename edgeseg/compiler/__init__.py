"""HOST: graph in, bundle out. Export, simplify, fold, ranges, Q/DQ, dynamic INT8, the accuracy gate."""
