//! Our own messages, from `proto` → Rust. protox reads them, so that no `protoc` need be installed.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let files = ["unskew/v1/models.proto", "unskew/v1/clock_service.proto"];
    files.iter().for_each(|file| println!("cargo::rerun-if-changed=proto/{file}"));
    let descriptors = protox::compile(files, ["proto"])?;
    Ok(tonic_prost_build::configure().build_transport(false).btree_map(".").compile_fds(descriptors)?)
}
