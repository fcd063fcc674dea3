//! Compiles the gRPC services and the internal messages with protox: no protoc to install.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let files = [
        "proto/stratalog/v1/stratalog.proto",
        "proto/stratalog/v1/cluster.proto",
        "proto/stratalog/v1/backup.proto",
        "proto/stratalog/v1/groups.proto",
        "proto/stratalog/internal/v1/commands.proto",
        "proto/stratalog/internal/v1/peer.proto",
        "proto/stratalog/internal/v1/segments.proto",
        "proto/stratalog/internal/v1/parts.proto",
        "proto/stratalog/internal/v1/route.proto",
    ];
    // All of it: these files import others.
    println!("cargo:rerun-if-changed=proto");
    let descriptors = protox::compile(files, ["proto"])?;
    tonic_prost_build::configure().bytes(".").codec_path("crate::codec::RoomyCodec").compile_fds(descriptors)?;
    Ok(())
}
