// sarama.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"log"
	"os"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/IBM/sarama"
)

type record struct {
	Event     string       `json:"event,omitempty"`
	Partition int32        `json:"partition"`
	Offset    int64        `json:"offset"`
	Timestamp int64        `json:"timestamp"`
	Key       *[]byte      `json:"key"`
	Value     *[]byte      `json:"value"`
	Headers   [][2]*string `json:"headers"`
}

type arguments struct {
	servers, topic, codec, from, group, assignor, instance, configs string
	partitions, times                                               string
	idempotent                                                      bool
	count, seek, partition, before                                  int64
	timeout                                                         float64
}

var (
	args    arguments
	outLock sync.Mutex
	out     = json.NewEncoder(os.Stdout)
)

type line map[string]any

func tell(it any) {
	outLock.Lock()
	defer outLock.Unlock()
	must(out.Encode(it))
}

func must(err error) {
	if err != nil {
		fail("%v", err)
	}
}

func fail(format string, what ...any) {
	fmt.Fprintf(os.Stderr, format+"\n", what...)
	os.Exit(1)
}

func numbers(text string) []int64 {
	found := []int64{}
	for _, number := range strings.FieldsFunc(text, func(c rune) bool { return c == ',' }) {
		parsed, err := strconv.ParseInt(number, 10, 64)
		must(err)
		found = append(found, parsed)
	}
	return found
}

func partitions() []int32 {
	found := []int32{}
	for _, number := range numbers(args.partitions) {
		found = append(found, int32(number))
	}
	return found
}

func config() *sarama.Config {
	config := sarama.NewConfig()
	config.ClientID = "matrix"
	config.Version = sarama.V3_6_0_0
	config.Consumer.MaxWaitTime = 100 * time.Millisecond
	config.Consumer.Return.Errors = true
	config.Metadata.Retry.Max = 10
	return config
}

func servers() []string {
	return strings.Split(args.servers, ",")
}

func newClient() sarama.Client {
	client, err := sarama.NewClient(servers(), config())
	must(err)
	return client
}

func produce() {
	config := config()
	config.Producer.RequiredAcks = sarama.WaitForAll
	config.Producer.Return.Successes = true
	config.Producer.Flush.Frequency = 50 * time.Millisecond
	config.Producer.Partitioner = sarama.NewManualPartitioner
	config.Producer.Idempotent = args.idempotent
	if args.idempotent {
		config.Net.MaxOpenRequests = 1
	}
	must(config.Producer.Compression.UnmarshalText([]byte(args.codec)))
	producer, err := sarama.NewAsyncProducer(servers(), config)
	must(err)
	sent := []*sarama.ProducerMessage{}
	decoder := json.NewDecoder(bufio.NewReaderSize(os.Stdin, 1<<20))
	for {
		var record record
		if err := decoder.Decode(&record); err == io.EOF {
			break
		} else {
			must(err)
		}
		message := &sarama.ProducerMessage{Topic: args.topic, Partition: record.Partition, Timestamp: time.UnixMilli(record.Timestamp)}
		if record.Key != nil {
			message.Key = sarama.ByteEncoder(*record.Key)
		}
		if record.Value != nil {
			message.Value = sarama.ByteEncoder(*record.Value)
		}
		for _, header := range record.Headers {
			message.Headers = append(message.Headers, sarama.RecordHeader{Key: []byte(*header[0]), Value: decode(header[1])})
		}
		sent = append(sent, message)
	}
	go func() {
		for _, message := range sent {
			producer.Input() <- message
		}
	}()
	for range sent {
		select {
		case <-producer.Successes():
		case err := <-producer.Errors():
			fail("not acknowledged: %v", err)
		case <-time.After(time.Duration(args.timeout * float64(time.Second))):
			fail("not acknowledged in time")
		}
	}
	for _, message := range sent {
		tell(line{"partition": message.Partition, "offset": message.Offset})
	}
	must(producer.Close())
}

func decode(text *string) []byte {
	if text == nil {
		return nil
	}
	var data []byte
	must(json.Unmarshal([]byte(`"`+*text+`"`), &data))
	return data
}

func given(data []byte) *[]byte {
	if data == nil {
		return nil
	}
	return &data
}

func tellMessage(message *sarama.ConsumerMessage, event string) {
	headers := [][2]any{}
	for _, header := range message.Headers {
		headers = append(headers, [2]any{string(header.Key), given(header.Value)})
	}
	it := line{"partition": message.Partition, "offset": message.Offset, "timestamp": message.Timestamp.UnixMilli(),
		"key": given(message.Key), "value": given(message.Value), "headers": headers}
	if event != "" {
		it["event"] = event
	}
	tell(it)
}

func consume() {
	client := newClient()
	consumer, err := sarama.NewConsumerFromClient(client)
	must(err)
	left := args.count
	for _, partition := range partitions() {
		end, err := client.GetOffset(args.topic, partition, sarama.OffsetNewest)
		must(err)
		start, err := client.GetOffset(args.topic, partition, sarama.OffsetOldest)
		must(err)
		if at, isTime := strings.CutPrefix(args.from, "time:"); isTime {
			start, err = client.GetOffset(args.topic, partition, numbers(at)[0])
			must(err)
		} else if args.from != "beginning" {
			start = numbers(args.from)[0]
		}
		if args.seek >= 0 {
			// It has no seek: reading ends, and begins again.
			for range read(consumer, partition, start, start+1) {
			}
			start = args.seek
		}
		for message := range read(consumer, partition, start, end) {
			if left > 0 {
				tellMessage(message, "")
			}
			left--
		}
	}
	if left > 0 {
		fail("%d records are missing", left)
	}
}

// The messages of a partition, from an offset up to another.
func read(consumer sarama.Consumer, partition int32, start, end int64) <-chan *sarama.ConsumerMessage {
	messages := make(chan *sarama.ConsumerMessage)
	if start >= end {
		close(messages)
		return messages
	}
	reader, err := consumer.ConsumePartition(args.topic, partition, start)
	must(err)
	go func() {
		defer close(messages)
		for at := start; at < end; {
			select {
			case message := <-reader.Messages():
				at = message.Offset + 1
				messages <- message
			case err := <-reader.Errors():
				fail("consuming failed: %v", err)
			case <-time.After(time.Duration(args.timeout * float64(time.Second))):
				fail("not all records came in time")
			}
		}
		must(reader.Close())
	}()
	return messages
}

func offsets() {
	client := newClient()
	for _, partition := range partitions() {
		beginning, err := client.GetOffset(args.topic, partition, sarama.OffsetOldest)
		must(err)
		end, err := client.GetOffset(args.topic, partition, sarama.OffsetNewest)
		must(err)
		at := []*int64{}
		for _, ms := range numbers(args.times) {
			found, err := client.GetOffset(args.topic, partition, ms)
			must(err)
			if found < 0 {
				at = append(at, nil)
			} else {
				at = append(at, &found)
			}
		}
		tell(line{"partition": partition, "beginning": beginning, "end": end, "at": at})
	}
}

type member struct {
	lock   sync.Mutex
	left   int64
	finish context.CancelFunc
}

func (m *member) Setup(session sarama.ConsumerGroupSession) error {
	held := slices.Clone(session.Claims()[args.topic])
	slices.Sort(held)
	tell(line{"event": "assigned", "partitions": append([]int32{}, held...)})
	return nil
}

func (m *member) Cleanup(session sarama.ConsumerGroupSession) error {
	tell(line{"event": "revoked", "partitions": append([]int32{}, session.Claims()[args.topic]...)})
	return nil
}

func (m *member) ConsumeClaim(session sarama.ConsumerGroupSession, claim sarama.ConsumerGroupClaim) error {
	for {
		select {
		case message, more := <-claim.Messages():
			if !more {
				return nil
			}
			if !m.take(session, message) {
				return nil
			}
		case <-session.Context().Done():
			return nil
		}
	}
}

// Tells and commits a message; false if it is one too many.
func (m *member) take(session sarama.ConsumerGroupSession, message *sarama.ConsumerMessage) bool {
	m.lock.Lock()
	defer m.lock.Unlock()
	if args.count > 0 && m.left <= 0 {
		return false
	}
	tellMessage(message, "record")
	session.MarkMessage(message, "")
	session.Commit()
	tell(line{"event": "committed", "offsets": line{strconv.Itoa(int(message.Partition)): message.Offset + 1}})
	m.left--
	if args.count > 0 && m.left == 0 {
		m.finish()
	}
	return true
}

func group() {
	config := config()
	config.Consumer.Offsets.Initial = sarama.OffsetOldest
	config.Consumer.Offsets.AutoCommit.Enable = false
	config.Consumer.Group.Session.Timeout = 30 * time.Second
	config.Consumer.Group.Heartbeat.Interval = time.Second
	config.Consumer.Group.Rebalance.GroupStrategies = []sarama.BalanceStrategy{sarama.NewBalanceStrategyRange()}
	config.Consumer.Group.InstanceId = args.instance
	consumers, err := sarama.NewConsumerGroup(servers(), args.group, config)
	must(err)
	until, finish := context.WithTimeout(context.Background(), time.Duration(args.timeout*float64(time.Second)))
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		finish()
	}()
	go func() {
		for err := range consumers.Errors() {
			fmt.Fprintln(os.Stderr, "error of the group:", err)
		}
	}()
	member := &member{left: args.count, finish: finish}
	for until.Err() == nil {
		if err := consumers.Consume(until, []string{args.topic}, member); err != nil && until.Err() == nil {
			fail("consuming failed: %v", err)
		}
	}
	must(consumers.Close())
	if member.left > 0 {
		fail("%d records are missing", member.left)
	}
}

func withAdmin(do func(admin sarama.ClusterAdmin)) {
	admin, err := sarama.NewClusterAdmin(servers(), config())
	must(err)
	do(admin)
	must(admin.Close())
}

func committed(admin sarama.ClusterAdmin) {
	found, err := admin.ListConsumerGroupOffsets(args.group, map[string][]int32{args.topic: partitions()})
	must(err)
	for _, partition := range partitions() {
		block := found.GetBlock(args.topic, partition)
		it := line{"partition": partition, "offset": nil}
		if block != nil && block.Offset >= 0 {
			it["offset"] = block.Offset
		}
		tell(it)
	}
}

func createTopic(admin sarama.ClusterAdmin) {
	entries := map[string]*string{}
	for _, setting := range strings.FieldsFunc(args.configs, func(c rune) bool { return c == ',' }) {
		name, value, _ := strings.Cut(setting, "=")
		entries[name] = &value
	}
	must(admin.CreateTopic(args.topic, &sarama.TopicDetail{NumPartitions: int32(args.partition), ReplicationFactor: -1, ConfigEntries: entries}, false))
}

func topics(admin sarama.ClusterAdmin) {
	found, err := admin.ListTopics()
	must(err)
	names := []string{}
	for name := range found {
		names = append(names, name)
	}
	slices.Sort(names)
	tell(line{"topics": names})
}

func describeTopic(admin sarama.ClusterAdmin) {
	found, err := admin.DescribeTopics([]string{args.topic})
	must(err)
	if found[0].Err != sarama.ErrNoError {
		fail("the topic is not described: %v", found[0].Err)
	}
	told := []line{}
	slices.SortFunc(found[0].Partitions, func(a, b *sarama.PartitionMetadata) int { return int(a.ID - b.ID) })
	for _, partition := range found[0].Partitions {
		told = append(told, line{"partition": partition.ID, "leader": partition.Leader, "replicas": partition.Replicas, "isr": partition.Isr})
	}
	tell(line{"topic": found[0].Name, "partitions": told})
}

func describeConfigs(admin sarama.ClusterAdmin) {
	found, err := admin.DescribeConfig(sarama.ConfigResource{Type: sarama.TopicResource, Name: args.topic})
	must(err)
	configs := map[string]string{}
	for _, entry := range found {
		configs[entry.Name] = entry.Value
	}
	tell(line{"configs": configs})
}

func describeGroup(admin sarama.ClusterAdmin) {
	found, err := admin.DescribeConsumerGroups([]string{args.group})
	must(err)
	if found[0].Err != sarama.ErrNoError {
		fail("the group is not described: %v", found[0].Err)
	}
	tell(line{"group": found[0].GroupId, "state": strings.ToLower(found[0].State), "members": len(found[0].Members)})
}

func groups(admin sarama.ClusterAdmin) {
	found, err := admin.ListConsumerGroups()
	must(err)
	names := []string{}
	for name := range found {
		names = append(names, name)
	}
	slices.Sort(names)
	tell(line{"groups": names})
}

func about() {
	build, _ := debug.ReadBuildInfo()
	for _, module := range build.Deps {
		if module.Path == "github.com/IBM/sarama" {
			tell(line{"client": "sarama", "version": module.Version, "runtime": build.GoVersion})
		}
	}
}

func main() {
	flags := flag.NewFlagSet("client", flag.ExitOnError)
	for name, into := range map[string]*string{
		"servers": &args.servers, "topic": &args.topic, "codec": &args.codec, "from": &args.from, "group": &args.group,
		"assignor": &args.assignor, "instance": &args.instance, "configs": &args.configs, "partitions": &args.partitions, "times": &args.times,
	} {
		flags.StringVar(into, name, "", "")
	}
	idempotent := flags.String("idempotent", "false", "")
	flags.Int64Var(&args.count, "count", 0, "")
	flags.Int64Var(&args.seek, "seek", -1, "")
	flags.Int64Var(&args.partition, "partition", 0, "")
	flags.Int64Var(&args.before, "before", 0, "")
	flags.Float64Var(&args.timeout, "timeout", 60, "")
	must(flags.Parse(os.Args[2:]))
	args.idempotent = *idempotent == "true"
	sarama.Logger = log.New(os.Stderr, "sarama ", log.Ltime)

	plain := map[string]func(){"about": about, "produce": produce, "consume": consume, "offsets": offsets, "group": group}
	ofAdmin := map[string]func(sarama.ClusterAdmin){
		"committed": committed, "create-topic": createTopic, "topics": topics, "describe-topic": describeTopic,
		"describe-configs": describeConfigs, "groups": groups, "describe-group": describeGroup,
		"delete-topic": func(admin sarama.ClusterAdmin) { must(admin.DeleteTopic(args.topic)) },
		"delete-group": func(admin sarama.ClusterAdmin) { must(admin.DeleteConsumerGroup(args.group)) },
		"delete-records": func(admin sarama.ClusterAdmin) {
			must(admin.DeleteRecords(args.topic, map[int32]int64{int32(args.partition): args.before}))
			tell(line{"low": nil})
		},
	}
	if command, found := plain[os.Args[1]]; found {
		command()
	} else if command, found := ofAdmin[os.Args[1]]; found {
		withAdmin(command)
	} else {
		fail("there is no command %s", os.Args[1])
	}
}
