# For capnp-rpc: the message and the body that every peer echoes.
@0xb2c7e90f4a51d836;

struct Message {
  id @0 :UInt64;
  name @1 :Text;
  tags @2 :List(UInt32);
}

interface Echo {
  echo @0 (message :Message) -> (message :Message);
  blob @1 (content :Data) -> (content :Data);
}
