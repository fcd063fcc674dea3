//! What requests are made of, field by field. Produce and Fetch are read by hand.

use super::shape::Kind::{Bool, Bytes, I8, I16, I32, I64, List, Struct, Text, Uuid};
use super::shape::{Field, always, between, since, until};

pub(super) const ALTER_CONFIGS: &[Field] = &[
    always(List(&Struct(&[always(I8), always(Text), always(List(&Struct(&[always(Text), always(Text)])))]))),
    always(Bool),
];

pub(super) const ALTER_PARTITION_REASSIGNMENTS: &[Field] =
    &[always(I32), always(List(&Struct(&[always(Text), always(List(&Struct(&[always(I32), always(List(&I32))])))])))];

pub(super) const API_VERSIONS: &[Field] = &[since(Text, 3), since(Text, 3)];

pub(super) const CREATE_PARTITIONS: &[Field] = &[
    always(List(&Struct(&[always(Text), always(I32), always(List(&Struct(&[always(List(&I32))])))]))),
    always(I32),
    always(Bool),
];

pub(super) const CREATE_TOPICS: &[Field] = &[
    always(List(&Struct(&[
        always(Text),
        always(I32),
        always(I16),
        always(List(&Struct(&[always(I32), always(List(&I32))]))),
        always(List(&Struct(&[always(Text), always(Text)]))),
    ]))),
    always(I32),
    since(Bool, 1),
];

pub(super) const DELETE_GROUPS: &[Field] = &[always(List(&Text))];

pub(super) const DELETE_RECORDS: &[Field] =
    &[always(List(&Struct(&[always(Text), always(List(&Struct(&[always(I32), always(I64)])))]))), always(I32)];

pub(super) const DELETE_TOPICS: &[Field] =
    &[since(List(&Struct(&[always(Text), always(Uuid)])), 6), until(List(&Text), 5), always(I32)];

pub(super) const DESCRIBE_CLUSTER: &[Field] = &[always(Bool), since(I8, 1)];

pub(super) const DESCRIBE_PRODUCERS: &[Field] = &[always(List(&Struct(&[always(Text), always(List(&I32))])))];

pub(super) const DESCRIBE_CONFIGS: &[Field] =
    &[always(List(&Struct(&[always(I8), always(Text), always(List(&Text))]))), since(Bool, 1), since(Bool, 3)];

pub(super) const DESCRIBE_GROUPS: &[Field] = &[always(List(&Text)), since(Bool, 3)];

pub(super) const DESCRIBE_LOG_DIRS: &[Field] = &[always(List(&Struct(&[always(Text), always(List(&I32))])))];

pub(super) const ELECT_LEADERS: &[Field] =
    &[since(I8, 1), always(List(&Struct(&[always(Text), always(List(&I32))]))), always(I32)];

pub(super) const FIND_COORDINATOR: &[Field] = &[until(Text, 3), since(I8, 1), since(List(&Text), 4)];

pub(super) const HEARTBEAT: &[Field] = &[always(Text), always(I32), always(Text), since(Text, 3)];

pub(super) const INCREMENTAL_ALTER_CONFIGS: &[Field] = &[
    always(List(&Struct(&[
        always(I8),
        always(Text),
        always(List(&Struct(&[always(Text), always(I8), always(Text)]))),
    ]))),
    always(Bool),
];

pub(super) const INIT_PRODUCER_ID: &[Field] = &[always(Text), always(I32), since(I64, 3), since(I16, 3)];

pub(super) const JOIN_GROUP: &[Field] = &[
    always(Text),
    always(I32),
    since(I32, 1),
    always(Text),
    since(Text, 5),
    always(Text),
    always(List(&Struct(&[always(Text), always(Bytes)]))),
    since(Text, 8),
];

pub(super) const LEAVE_GROUP: &[Field] =
    &[always(Text), until(Text, 2), since(List(&Struct(&[always(Text), always(Text), since(Text, 5)])), 3)];

pub(super) const LIST_GROUPS: &[Field] = &[since(List(&Text), 4), since(List(&Text), 5)];

pub(super) const LIST_OFFSETS: &[Field] = &[
    always(I32),
    since(I8, 2),
    always(List(&Struct(&[always(Text), always(List(&Struct(&[always(I32), since(I32, 4), always(I64)])))]))),
];

pub(super) const LIST_PARTITION_REASSIGNMENTS: &[Field] =
    &[always(I32), always(List(&Struct(&[always(Text), always(List(&I32))])))];

pub(super) const METADATA: &[Field] =
    &[always(List(&Struct(&[since(Uuid, 10), always(Text)]))), since(Bool, 4), between(Bool, 8, 10), since(Bool, 8)];

pub(super) const OFFSET_COMMIT: &[Field] = &[
    always(Text),
    always(I32),
    always(Text),
    since(Text, 7),
    between(I64, 2, 4),
    always(List(&Struct(&[
        always(Text),
        always(List(&Struct(&[always(I32), always(I64), since(I32, 6), always(Text)]))),
    ]))),
];

pub(super) const OFFSET_DELETE: &[Field] =
    &[always(Text), always(List(&Struct(&[always(Text), always(List(&Struct(&[always(I32)])))])))];

pub(super) const OFFSET_FETCH: &[Field] = &[
    until(Text, 7),
    until(List(&Struct(&[always(Text), always(List(&I32))])), 7),
    since(
        List(&Struct(&[
            always(Text),
            since(Text, 9),
            since(I32, 9),
            always(List(&Struct(&[always(Text), always(List(&I32))]))),
        ])),
        8,
    ),
    since(Bool, 7),
];

pub(super) const OFFSET_FOR_LEADER_EPOCH: &[Field] = &[
    since(I32, 3),
    always(List(&Struct(&[always(Text), always(List(&Struct(&[always(I32), since(I32, 2), always(I32)])))]))),
];

pub(super) const SASL_HANDSHAKE: &[Field] = &[always(Text)];

pub(super) const SYNC_GROUP: &[Field] = &[
    always(Text),
    always(I32),
    always(Text),
    since(Text, 3),
    since(Text, 5),
    since(Text, 5),
    always(List(&Struct(&[always(Text), always(Bytes)]))),
];
