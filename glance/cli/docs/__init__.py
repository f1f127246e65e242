"""Manual pages, completion, reference pages and samples, made from declarations."""
