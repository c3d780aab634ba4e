//! OCSF 1.8.0 Detection Finding and its CloudEvents headers.
