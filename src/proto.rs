//! Our own messages, as made from `proto` when the crate is built.

#![allow(missing_docs, clippy::pedantic, clippy::all, reason = "generated; proto/unskew/v1 has the words")]

tonic::include_proto!("unskew.v1");
