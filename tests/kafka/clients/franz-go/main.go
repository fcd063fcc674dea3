// franz-go.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

type record struct {
	Partition int32        `json:"partition"`
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

type line map[string]any

var (
	args    arguments
	outLock sync.Mutex
	out     = json.NewEncoder(os.Stdout)
	until   context.Context
)

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

func newClient(more ...kgo.Opt) *kgo.Client {
	logger := kgo.BasicLogger(os.Stderr, kgo.LogLevelWarn, nil)
	client, err := kgo.NewClient(append([]kgo.Opt{
		kgo.SeedBrokers(strings.Split(args.servers, ",")...), kgo.WithLogger(logger), kgo.FetchMaxWait(100 * time.Millisecond),
	}, more...)...)
	must(err)
	return client
}

func bytesOf(data *[]byte) []byte {
	if data == nil {
		return nil
	}
	return *data
}

func given(data []byte) *[]byte {
	if data == nil {
		return nil
	}
	return &data
}

func produce() {
	codec := map[string]kgo.CompressionCodec{
		"none": kgo.NoCompression(), "gzip": kgo.GzipCompression(), "snappy": kgo.SnappyCompression(),
		"lz4": kgo.Lz4Compression(), "zstd": kgo.ZstdCompression(),
	}[args.codec]
	options := []kgo.Opt{kgo.ProducerBatchCompression(codec), kgo.ProducerLinger(50 * time.Millisecond),
		kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.RequiredAcks(kgo.AllISRAcks())}
	if !args.idempotent {
		options = append(options, kgo.DisableIdempotentWrite())
	}
	client := newClient(options...)
	sent := []*kgo.Record{}
	decoder := json.NewDecoder(bufio.NewReaderSize(os.Stdin, 1<<20))
	for {
		var record record
		if err := decoder.Decode(&record); err == io.EOF {
			break
		} else {
			must(err)
		}
		it := &kgo.Record{Topic: args.topic, Partition: record.Partition, Timestamp: time.UnixMilli(record.Timestamp),
			Key: bytesOf(record.Key), Value: bytesOf(record.Value)}
		for _, header := range record.Headers {
			var value []byte
			if header[1] != nil {
				must(json.Unmarshal([]byte(`"`+*header[1]+`"`), &value))
			}
			it.Headers = append(it.Headers, kgo.RecordHeader{Key: *header[0], Value: value})
		}
		sent = append(sent, it)
	}
	must(client.ProduceSync(until, sent...).FirstErr())
	for _, record := range sent {
		tell(line{"partition": record.Partition, "offset": record.Offset})
	}
	client.Close()
}

func tellRecord(record *kgo.Record, event string) {
	headers := [][2]any{}
	for _, header := range record.Headers {
		headers = append(headers, [2]any{header.Key, given(header.Value)})
	}
	it := line{"partition": record.Partition, "offset": record.Offset, "timestamp": record.Timestamp.UnixMilli(),
		"key": given(record.Key), "value": given(record.Value), "headers": headers}
	if event != "" {
		it["event"] = event
	}
	tell(it)
}

func consume() {
	start := kgo.NewOffset().AtStart()
	if at, isTime := strings.CutPrefix(args.from, "time:"); isTime {
		start = kgo.NewOffset().AfterMilli(numbers(at)[0])
	} else if args.from != "beginning" {
		start = kgo.NewOffset().At(numbers(args.from)[0])
	}
	starts := map[int32]kgo.Offset{}
	for _, partition := range numbers(args.partitions) {
		starts[int32(partition)] = start
	}
	client := newClient(kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{args.topic: starts}), kgo.ConsumeResetOffset(kgo.NoResetOffset()))
	left := args.count
	seeks := args.seek >= 0
	for left > 0 {
		fetches := client.PollRecords(until, int(left))
		must(fetches.Err())
		for _, record := range fetches.Records() {
			if seeks {
				seeks = false
				client.SetOffsets(map[string]map[int32]kgo.EpochOffset{args.topic: {record.Partition: {Epoch: -1, Offset: args.seek}}})
				break
			}
			tellRecord(record, "")
			left--
		}
	}
	client.Close()
}

func group() {
	balancer := map[string]kgo.GroupBalancer{"range": kgo.RangeBalancer(), "cooperative": kgo.CooperativeStickyBalancer()}[args.assignor]
	held := map[int32]bool{}
	change := func(event string, to bool) func(context.Context, *kgo.Client, map[string][]int32) {
		return func(_ context.Context, _ *kgo.Client, partitions map[string][]int32) {
			for _, partition := range partitions[args.topic] {
				if to {
					held[partition] = true
				} else {
					delete(held, partition)
				}
			}
			told := append([]int32{}, partitions[args.topic]...)
			if to {
				told = told[:0]
				for partition := range held {
					told = append(told, partition)
				}
			}
			slices.Sort(told)
			tell(line{"event": event, "partitions": told})
		}
	}
	options := []kgo.Opt{kgo.ConsumerGroup(args.group), kgo.ConsumeTopics(args.topic), kgo.Balancers(balancer), kgo.DisableAutoCommit(),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.SessionTimeout(30 * time.Second), kgo.HeartbeatInterval(time.Second),
		kgo.BlockRebalanceOnPoll(), kgo.OnPartitionsAssigned(change("assigned", true)), kgo.OnPartitionsRevoked(change("revoked", false)),
		kgo.OnPartitionsLost(change("revoked", false))}
	if args.instance != "" {
		options = append(options, kgo.InstanceID(args.instance))
	}
	client := newClient(options...)
	ended, end := context.WithCancel(until)
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		end()
	}()
	left := args.count
	for ended.Err() == nil && (args.count == 0 || left > 0) {
		most := int64(50)
		if args.count > 0 {
			most = min(left, most)
		}
		fetches := client.PollRecords(ended, int(most))
		if err := fetches.Err(); err != nil && !errors.Is(err, context.Canceled) && !errors.Is(err, context.DeadlineExceeded) {
			fail("consuming failed: %v", err)
		}
		records := fetches.Records()
		offsets := line{}
		for _, record := range records {
			tellRecord(record, "record")
			offsets[strconv.Itoa(int(record.Partition))] = record.Offset + 1
			left--
		}
		if len(records) > 0 {
			must(client.CommitRecords(context.Background(), records...))
			tell(line{"event": "committed", "offsets": offsets})
		}
		client.AllowRebalance()
	}
	client.CloseAllowingRebalance()
	if left > 0 {
		fail("%d records are missing", left)
	}
}

func offsets(admin *kadm.Client) {
	beginnings, err := admin.ListStartOffsets(until, args.topic)
	must(err)
	ends, err := admin.ListEndOffsets(until, args.topic)
	must(err)
	for _, partition := range numbers(args.partitions) {
		beginning, _ := beginnings.Lookup(args.topic, int32(partition))
		end, _ := ends.Lookup(args.topic, int32(partition))
		must(errors.Join(beginning.Err, end.Err))
		at := []int64{}
		for _, ms := range numbers(args.times) {
			found, err := admin.ListOffsetsAfterMilli(until, ms, args.topic)
			must(err)
			one, _ := found.Lookup(args.topic, int32(partition))
			must(one.Err)
			at = append(at, one.Offset)
		}
		tell(line{"partition": partition, "beginning": beginning.Offset, "end": end.Offset, "at": at})
	}
}

func committed(admin *kadm.Client) {
	found, err := admin.FetchOffsets(until, args.group)
	must(err)
	for _, partition := range numbers(args.partitions) {
		it := line{"partition": partition, "offset": nil}
		if one, known := found.Lookup(args.topic, int32(partition)); known && one.At >= 0 {
			must(one.Err)
			it["offset"] = one.At
			it["metadata"] = one.Metadata
		}
		tell(it)
	}
}

func createTopic(admin *kadm.Client) {
	configs := map[string]*string{}
	for _, setting := range strings.FieldsFunc(args.configs, func(c rune) bool { return c == ',' }) {
		name, value, _ := strings.Cut(setting, "=")
		configs[name] = &value
	}
	_, err := admin.CreateTopic(until, int32(args.partition), -1, configs, args.topic)
	must(err)
}

func topics(admin *kadm.Client) {
	found, err := admin.ListTopics(until)
	must(err)
	tell(line{"topics": found.Names()})
}

func describeTopic(admin *kadm.Client) {
	found, err := admin.ListTopics(until, args.topic)
	must(err)
	must(found[args.topic].Err)
	told := []line{}
	for _, partition := range found[args.topic].Partitions.Sorted() {
		told = append(told, line{"partition": partition.Partition, "leader": partition.Leader, "replicas": partition.Replicas, "isr": partition.ISR})
	}
	tell(line{"topic": args.topic, "partitions": told})
}

func describeConfigs(admin *kadm.Client) {
	found, err := admin.DescribeTopicConfigs(until, args.topic)
	must(err)
	one, err := found.On(args.topic, nil)
	must(errors.Join(err, one.Err))
	configs := map[string]*string{}
	for _, config := range one.Configs {
		configs[config.Key] = config.Value
	}
	tell(line{"configs": configs})
}

func deleteRecords(admin *kadm.Client) {
	asked := kadm.Offsets{}
	asked.AddOffset(args.topic, int32(args.partition), args.before, -1)
	found, err := admin.DeleteRecords(until, asked)
	must(err)
	one, _ := found.Lookup(args.topic, int32(args.partition))
	must(one.Err)
	tell(line{"low": one.LowWatermark})
}

func deleteTopic(admin *kadm.Client) {
	found, err := admin.DeleteTopic(until, args.topic)
	must(errors.Join(err, found.Err))
}

func groups(admin *kadm.Client) {
	found, err := admin.ListGroups(until)
	must(err)
	tell(line{"groups": found.Groups()})
}

func describeGroup(admin *kadm.Client) {
	found, err := admin.DescribeGroups(until, args.group)
	must(err)
	one := found[args.group]
	must(one.Err)
	tell(line{"group": one.Group, "state": strings.ToLower(one.State), "members": len(one.Members)})
}

func deleteGroup(admin *kadm.Client) {
	found, err := admin.DeleteGroup(until, args.group)
	must(errors.Join(err, found.Err))
}

func about() {
	build, _ := debug.ReadBuildInfo()
	for _, module := range build.Deps {
		if module.Path == "github.com/twmb/franz-go" {
			tell(line{"client": "franz-go", "version": module.Version, "runtime": build.GoVersion})
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
	context, stop := context.WithTimeout(context.Background(), time.Duration(args.timeout*float64(time.Second)))
	defer stop()
	until = context

	plain := map[string]func(){"about": about, "produce": produce, "consume": consume, "group": group}
	ofAdmin := map[string]func(*kadm.Client){
		"offsets": offsets, "committed": committed, "create-topic": createTopic, "topics": topics, "describe-topic": describeTopic,
		"describe-configs": describeConfigs, "delete-records": deleteRecords, "delete-topic": deleteTopic, "groups": groups,
		"describe-group": describeGroup, "delete-group": deleteGroup,
	}
	if command, found := plain[os.Args[1]]; found {
		command()
	} else if command, found := ofAdmin[os.Args[1]]; found {
		client := newClient()
		command(kadm.NewClient(client))
		client.Close()
	} else {
		fail("there is no command %s", os.Args[1])
	}
}
