// kafkajs. Its consumer always is in a group; `consume` and `--seek` use what lies below it: the fetch of a broker, and its
// decoding.
const readline = require('readline')
const kafkajs = require('kafkajs')
const Batch = require('kafkajs/src/consumer/batch')
const zstd = require('@bokuweb/zstd-wasm')
const lz4 = require('lz4-napi')
const { AssignerProtocol, CompressionCodecs, CompressionTypes, ConfigResourceTypes, Kafka, logLevel } = kafkajs

CompressionCodecs[CompressionTypes.Snappy] = require('kafkajs-snappy')
CompressionCodecs[CompressionTypes.LZ4] = () => ({
  compress: async encoder => lz4.compressFrame(encoder.buffer),
  decompress: async buffer => lz4.decompressFrame(buffer),
})
CompressionCodecs[CompressionTypes.ZSTD] = () => ({
  compress: async encoder => Buffer.from(zstd.compress(encoder.buffer)),
  decompress: async buffer => Buffer.from(zstd.decompress(buffer)),
})
// Below what a topic takes in one batch; kafkajs makes one batch of a send.
const MAX_BATCH_BYTES = 950_000

const args = { timeout: '60', times: '', configs: '' }
for (let at = 3; at < process.argv.length; at += 2) args[process.argv[at].slice(2)] = process.argv[at + 1]
const numbers = text => text.split(',').filter(Boolean).map(Number)

const tell = line => process.stdout.write(JSON.stringify(line) + '\n')
const decode = text => (text === null ? null : Buffer.from(text, 'base64'))
const encode = data => (data === null || data === undefined ? null : Buffer.from(data).toString('base64'))
const fail = why => {
  console.error(why)
  process.exit(1)
}

const client = () => new Kafka({
  clientId: 'matrix', brokers: args.servers.split(','), logLevel: logLevel.ERROR, retry: { retries: 8 },
  logCreator: () => ({ log }) => console.error(JSON.stringify(log)),
})

const headersOf = message => Object.entries(message.headers || {}).flatMap(([name, value]) =>
  (Array.isArray(value) ? value : [value]).map(each => [name, encode(each)]))

const tellMessage = (partition, message, more) => tell({
  ...more, partition, offset: Number(message.offset), timestamp: Number(message.timestamp), key: encode(message.key),
  value: encode(message.value), headers: headersOf(message),
})

async function* records() {
  for await (const line of readline.createInterface({ input: process.stdin })) {
    const record = JSON.parse(line)
    const headers = {}
    for (const [name, value] of record.headers) {
      const all = headers[name] === undefined ? [] : [].concat(headers[name])
      headers[name] = all.length ? [...all, decode(value)] : decode(value)
    }
    yield { partition: record.partition, timestamp: String(record.timestamp), key: decode(record.key), value: decode(record.value), headers }
  }
}

async function produce() {
  const producer = client().producer({ idempotent: args.idempotent === 'true', maxInFlightRequests: 1 })
  await producer.connect()
  const compression = { none: 0, gzip: 1, snappy: 2, lz4: 3, zstd: 4 }[args.codec]
  const send = async messages => {
    const answers = await producer.send({ topic: args.topic, acks: -1, compression, messages })
    for (const [at, { partition }] of messages.entries()) {
      const answer = answers.find(each => each.partition === partition)
      if (!answer || answer.errorCode) fail(`not acknowledged: ${JSON.stringify(answers)}`)
      // One send is of one partition, so that its records follow each other.
      tell({ partition, offset: Number(answer.baseOffset) + at })
    }
  }
  let batch = [], bytes = 0
  for await (const record of records()) {
    const size = (record.value || '').length + (record.key || '').length + 200
    if (batch.length && (bytes + size > MAX_BATCH_BYTES || batch[0].partition !== record.partition)) {
      await send(batch)
      batch = []
      bytes = 0
    }
    batch.push(record)
    bytes += size
  }
  if (batch.length) await send(batch)
  await producer.disconnect()
}

/** Fetches from one partition, from an offset on. */
async function* messagesOf(cluster, partition, from) {
  const until = Date.now() + args.timeout * 1000
  let offset = from
  while (Date.now() < until) {
    const { leader } = cluster.findTopicPartitionMetadata(args.topic).find(each => each.partitionId === partition)
    const broker = await cluster.findBroker({ nodeId: String(leader) })
    const { responses } = await broker.fetch({
      replicaId: -1, isolationLevel: 0, maxWaitTime: 100, minBytes: 1, maxBytes: 10 << 20, rackId: '',
      topics: [{ topic: args.topic, partitions: [{ partition, fetchOffset: offset, maxBytes: 1 << 20 }] }],
    })
    const batch = new Batch(args.topic, offset, responses[0].partitions[0])
    for (const message of batch.messages) yield message
    if (batch.messages.length) offset = Number(batch.lastOffset()) + 1
  }
  fail('not all records came in time')
}

async function consume() {
  const kafka = client()
  const admin = kafka.admin()
  await admin.connect()
  const create = Object.getOwnPropertySymbols(kafka).find(each => each.description === 'private:Kafka:createCluster')
  const cluster = kafka[create]({})
  await cluster.connect()
  await cluster.addTargetTopic(args.topic)
  await cluster.refreshMetadata()
  let left = Number(args.count)
  const offsets = await admin.fetchTopicOffsets(args.topic)
  for (const partition of numbers(args.partitions)) {
    const { low, high } = offsets.find(each => each.partition === partition)
    let from = Number(low)
    if (args.from.startsWith('time:')) {
      const found = await admin.fetchTopicOffsetsByTimestamp(args.topic, Number(args.from.slice(5)))
      from = Number(found.find(each => each.partition === partition).offset)
    } else if (args.from !== 'beginning') from = Number(args.from)
    if (args.seek !== undefined) {
      await messagesOf(cluster, partition, from).next()
      from = Number(args.seek)
    }
    if (from >= Number(high)) continue
    for await (const message of messagesOf(cluster, partition, from)) {
      if (left-- > 0) tellMessage(partition, message)
      if (left <= 0 || Number(message.offset) + 1 >= Number(high)) break
    }
  }
  if (left > 0) fail(`${left} records are missing`)
  await cluster.disconnect()
  await admin.disconnect()
}

async function offsets() {
  const admin = client().admin()
  await admin.connect()
  const found = await admin.fetchTopicOffsets(args.topic)
  const times = []
  for (const ms of numbers(args.times)) times.push(await admin.fetchTopicOffsetsByTimestamp(args.topic, ms))
  for (const partition of numbers(args.partitions)) {
    const of = list => list.find(each => each.partition === partition)
    tell({ partition, beginning: Number(of(found).low), end: Number(of(found).high), at: times.map(each => Number(of(each).offset)) })
  }
  await admin.disconnect()
}

/** Java's RangeAssignor for one topic, so that groups with other clients have a strategy in common. */
const rangeAssigner = ({ cluster }) => ({
  name: 'range',
  version: 0,
  async assign({ members, topics: [topic] }) {
    const partitions = cluster.findTopicPartitionMetadata(topic).map(each => each.partitionId).sort((a, b) => a - b)
    const ids = members.map(member => member.memberId).sort()
    const each = Math.floor(partitions.length / ids.length)
    const more = partitions.length % ids.length
    return ids.map((memberId, at) => {
      const start = each * at + Math.min(at, more)
      const own = partitions.slice(start, start + each + (at < more ? 1 : 0))
      return { memberId, memberAssignment: AssignerProtocol.MemberAssignment.encode({ version: 0, assignment: { [topic]: own } }) }
    })
  },
  protocol({ topics }) {
    return { name: 'range', metadata: AssignerProtocol.MemberMetadata.encode({ version: 0, topics }) }
  },
})

async function group() {
  const consumer = client().consumer({
    groupId: args.group, sessionTimeout: 30_000, heartbeatInterval: 1_000, rebalanceTimeout: 40_000, maxWaitTimeInMs: 100,
    partitionAssigners: [rangeAssigner],
  })
  let left = Number(args.count || 0)
  let held = []
  let finish
  const finished = new Promise(resolve => { finish = resolve })
  consumer.on('consumer.group_join', ({ payload }) => {
    held = payload.memberAssignment[args.topic] || []
    tell({ event: 'assigned', partitions: held.map(Number).sort((a, b) => a - b) })
  })
  consumer.on('consumer.rebalancing', () => tell({ event: 'revoked', partitions: held }))
  consumer.on('consumer.crash', ({ payload }) => fail(`the consumer crashed: ${payload.error.stack}`))
  await consumer.connect()
  await consumer.subscribe({ topics: [args.topic], fromBeginning: true })
  await consumer.run({
    autoCommit: false,
    eachBatchAutoResolve: false,
    eachBatch: async ({ batch, resolveOffset, isRunning, isStale }) => {
      const messages = args.count ? batch.messages.slice(0, Math.max(left, 0)) : batch.messages
      if (!messages.length || !isRunning() || isStale()) return
      left -= messages.length
      for (const message of messages) {
        tellMessage(batch.partition, message, { event: 'record' })
        resolveOffset(message.offset)
      }
      const next = Number(messages[messages.length - 1].offset) + 1
      await consumer.commitOffsets([{ topic: args.topic, partition: batch.partition, offset: String(next) }])
      tell({ event: 'committed', offsets: { [batch.partition]: next } })
      if (args.count && left <= 0) finish()
    },
  })
  process.stdin.on('end', finish).resume()
  setTimeout(() => finish(), args.timeout * 1000)
  await finished
  await consumer.disconnect()
  if (left > 0) fail(`${left} records are missing`)
  process.exit(0)
}

const withAdmin = command => async () => {
  const admin = client().admin()
  await admin.connect()
  try {
    await command(admin)
  } finally {
    await admin.disconnect()
  }
}

const commands = {
  about: async () => tell({ client: 'kafkajs', version: require('kafkajs/package.json').version, runtime: process.version }),
  produce,
  consume,
  offsets,
  group,
  committed: withAdmin(async admin => {
    const [{ partitions }] = await admin.fetchOffsets({ groupId: args.group, topics: [args.topic] })
    for (const partition of numbers(args.partitions)) {
      const offset = Number(partitions.find(each => each.partition === partition).offset)
      tell({ partition, offset: offset < 0 ? null : offset })
    }
  }),
  'create-topic': withAdmin(async admin => {
    const configEntries = args.configs.split(',').filter(Boolean).map(each => {
      const [name, value] = each.split('=')
      return { name, value }
    })
    const topic = { topic: args.topic, numPartitions: Number(args.partition), replicationFactor: -1, configEntries }
    // It answers false for a topic that is there.
    if (!(await admin.createTopics({ topics: [topic] }))) fail('the topic already exists')
  }),
  topics: withAdmin(async admin => tell({ topics: (await admin.listTopics()).sort() })),
  'describe-topic': withAdmin(async admin => {
    const { topics: [topic] } = await admin.fetchTopicMetadata({ topics: [args.topic] })
    tell({ topic: topic.name, partitions: topic.partitions.map(each => (
      { partition: each.partitionId, leader: each.leader, replicas: each.replicas, isr: each.isr })).sort((a, b) => a.partition - b.partition) })
  }),
  'describe-configs': withAdmin(async admin => {
    const { resources: [found] } = await admin.describeConfigs({
      includeSynonyms: false, resources: [{ type: ConfigResourceTypes.TOPIC, name: args.topic }] })
    tell({ configs: Object.fromEntries(found.configEntries.map(each => [each.configName, each.configValue])) })
  }),
  'delete-records': withAdmin(async admin => {
    // It looks for leaders in what it knows of topics, and knows of none before somebody asks.
    await admin.fetchTopicOffsets(args.topic)
    await admin.deleteTopicRecords({ topic: args.topic, partitions: [{ partition: Number(args.partition), offset: args.before }] })
    tell({ low: null })
  }),
  'delete-topic': withAdmin(admin => admin.deleteTopics({ topics: [args.topic] })),
  groups: withAdmin(async admin => tell({ groups: (await admin.listGroups()).groups.map(each => each.groupId).sort() })),
  'describe-group': withAdmin(async admin => {
    const { groups: [found] } = await admin.describeGroups([args.group])
    tell({ group: found.groupId, state: found.state.toLowerCase(), members: found.members.length })
  }),
  'delete-group': withAdmin(admin => admin.deleteGroups([args.group])),
}

zstd.init().then(commands[process.argv[2]]).catch(error => fail(error.stack))
