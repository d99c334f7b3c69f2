// For volo: the message and the body that every peer echoes. Thrift has no unsigned integers.
namespace rs echo

struct Message {
    1: required i64 id,
    2: required string name,
    3: required list<i32> tags,
}

struct Body {
    1: required binary content,
}

service Echo {
    Message echo(1: Message message),
    Body blob(1: Body body),
}
