// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"go.uber.org/goleak"

	"vxsnd/internal/config"
	"vxsnd/internal/control"
)

// The entries of a daemon in scripts.
func cannedFDB() control.FDBPart {
	entry := func(vni uint32, addr, source string, seconds, id, heard int64) control.FDBEntry {
		e := control.FDBEntry{VNI: vni, Address: netip.MustParseAddr(addr), Source: source, Identifier: uint64(id)}
		if seconds >= 0 {
			e.Seconds = &seconds
		}
		if heard >= 0 {
			e.LastHeard = &heard
		}
		return e
	}
	told := entry(2000, "100.100.100.100", "peer", -1, 0, 30)
	told.Via = netip.MustParseAddr("10.0.0.12")
	return control.FDBPart{
		entry(10, "10.2.1.1", "registration", 82, 0x525400000001, 8),
		entry(10, "10.2.1.2", "data", 12, 0, 78),
		entry(10, "10.2.1.2", "registration", 77, 0x525400000002, 13),
		entry(10, "10.2.1.2", "peer", 41, 0x525400000002, 49),
		entry(10, "10.2.1.3", "data", 90, 0, 0),
		entry(10, "10.2.1.3", "operator", -1, 0, -1),
		entry(2000, "100.100.100.100", "configuration", -1, 0, -1),
		told,
		entry(2000, "2001:db8::aaaa:bbbb:cccc:1", "registration", 65534, 1<<64-1-1<<63, 0),
		entry(16777215, "10.2.1.1", "peer", 5, 3, 85),
	}
}

func cannedStatus() control.Status {
	return control.Status{
		Process: cannedProcess("vxsnd"),
		Ready:   true, Engine: "raw", ProtocolVersion: 3,
		SvcnodeIP: netip.MustParseAddr("10.0.0.10"), SrcIP: netip.MustParseAddr("10.0.0.11"),
		Peers: []string{"10.0.0.13:10001", "10.0.0.12:10001", "10.0.0.14:10001"},
		Anycast: &control.Anycast{
			Address: netip.MustParseAddr("10.0.0.10"), Interface: "lo", Owner: "vxsnd", SinceSeconds: 123, Healthy: true,
		},
		VxfldPort: 10001, VXLANListenPort: 4789, VXLANDestPort: 8472, VRF: "blue", MetricsListen: "127.0.0.1:9477",
		VNIs: 2, Members: 5, Entries: 7, BySource: map[string]int{"registration": 4, "data": 3, "operator": 0},
		Packets: 1000, Bytes: 123456, Copies: 4000, CopyBytes: 493824, Fragmented: 7, Learned: 3, Loops: 1,
		Drops:         map[string]uint64{"ttl": 2, "no_member": 40, "kernel": 0},
		Queues:        control.Queues{Receive: 10, Send: 20},
		Registrations: map[string]uint64{"taken": 12, "not_peer": 1},
		PeerConnections: control.Connections{
			Accepted: map[string]uint64{"update": 5, "request": 0, "repair": 2},
			Refused:  map[string]uint64{"not_peer": 3, "slow": 0},
		},
	}
}

func cannedProcess(program string) control.Process {
	return control.Process{
		Program: program, Version: "1.2.3", PID: 4711,
		Started: time.Date(2026, 11, 22, 10, 30, 0, 0, time.UTC), UptimeSeconds: 3*24*60*60 + 4*60*60 + 5*60 + 6,
		ConfigFiles:  []string{"/etc/" + program + ".conf", "/etc/" + program + ".conf.override"},
		LogLinesLost: 9,
		Checks: []control.Check{
			{Name: "rmem_max", Text: "net.core.rmem_max is 212992, receive_queue asks for 131072", Fix: "sysctl -w net.core.rmem_max=262144"},
			{Name: "other", Text: "something else is wrong"},
		},
	}
}

// shownConfig is the configuration of a daemon in scripts.
var shownConfig = func() config.Config {
	c := config.Default()
	c.NodeID, c.VRF, c.Holdtime = 1<<63+1, "blue & <red>", time.Minute
	return c
}()

// cannedCommands answer with entries in parts of size.
func cannedCommands(s control.Status, peers []control.Peer, fdb control.FDBPart, size int) []control.Command {
	return []control.Command{
		{Name: control.CommandShow, Run: func(_ context.Context, call *control.Call) error {
			return call.Send(&s)
		}},
		{Name: control.CommandPeers, Run: func(_ context.Context, call *control.Call) error {
			return call.Send(peers)
		}},
		{Name: control.CommandFDB, Run: func(_ context.Context, call *control.Call) error {
			var a control.FDBArgs
			if err := control.DecodeArgs(call.Args, &a); err != nil {
				return err
			}
			all := slices.DeleteFunc(slices.Clone(fdb), func(e control.FDBEntry) bool {
				return a.VNI != nil && *a.VNI != e.VNI || a.VTEP.IsValid() && !a.VTEP.Contains(e.Address) || a.Source != "" && a.Source != e.Source
			})
			for part := range slices.Chunk(all, size) {
				if err := call.Send(part); err != nil {
					return err
				}
			}
			return nil
		}},
		cannedConfig(),
	}
}

// cannedConfig answers with shownConfig.
func cannedConfig() control.Command {
	return control.Command{Name: control.CommandConfig, Run: func(_ context.Context, call *control.Call) error {
		var a control.ConfigArgs
		if err := control.DecodeArgs(call.Args, &a); err != nil {
			return err
		}
		values, err := configValues(&config.Input{Program: config.Vxsnd}, &shownConfig, a.Name)
		if err != nil {
			return err
		}
		return call.Send(values)
	}}
}

// serveControl runs a daemon's management socket until the returned function
// is called.
func serveControl(path string, commands []control.Command) (func(), error) {
	s := control.New(control.Options{Path: path, Commands: commands})
	if err := s.Listen(); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { _ = s.Run(ctx) })
	return func() {
		cancel()
		running.Wait()
	}, nil
}

// saying runs a daemon that answers each client's request with text and leaves.
func saying(path, text string) (func(), error) {
	l, err := net.Listen("unix", path)
	if err != nil {
		return nil, err
	}
	var running sync.WaitGroup
	running.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			_, _ = c.Read(make([]byte, 4096))
			_, _ = io.WriteString(c, text)
			_ = c.Close()
		}
	})
	return func() {
		_ = l.Close()
		running.Wait()
	}, nil
}

// TestVxsndctlScript runs vxsndctl as a user does, against daemons of all sorts.
func TestVxsndctlScript(t *testing.T) {
	failing := func(err error) []control.Command {
		return []control.Command{{Name: control.CommandFDB, Run: func(_ context.Context, call *control.Call) error {
			return errors.Join(call.Send(cannedFDB()[:1]), err)
		}}}
	}
	many := make(control.FDBPart, 100000)
	for i := range many {
		many[i] = control.FDBEntry{VNI: uint32(i / 10), Address: netip.AddrFrom4([4]byte{10, 1, 1, byte(i % 10)}), Source: "operator"}
	}
	daemons := map[string]func(path string) (func(), error){
		"full": func(path string) (func(), error) {
			return serveControl(path, append(cannedCommands(cannedStatus(), cannedPeers(), cannedFDB(), 3), cannedTraffic()...))
		},
		"many": func(path string) (func(), error) {
			return serveControl(path, cannedCommands(cannedStatus(), nil, many, control.MaxPart))
		},
		"empty": func(path string) (func(), error) {
			s := control.Status{
				Process: control.Process{Program: "vxsnd", Version: "devel", PID: 1}, Engine: "none", VxfldPort: 10001, ProtocolVersion: 3,
				Waiting: "the table of a peer",
			}
			return serveControl(path, cannedCommands(s, []control.Peer{}, nil, 1))
		},
		"kernel": func(path string) (func(), error) {
			s := control.Status{
				Process: control.Process{Program: "vxsnd", Version: "devel", PID: 1}, Ready: true, Engine: "tc", VxfldPort: 10001, ProtocolVersion: 3,
				Devices: []string{"eth0", "eth1"}, Packets: 1200,
				Kernel: &control.Kernel{
					Hook: "tcx", VNIs: 100, Members: 1, Bytes: 2097152, RawVNIs: map[string]int{"too_many_members": 2, "pending": 1, "held": 0},
					Pending: 3, Packets: 1000, Copies: 64000, HandedUp: map[string]uint64{"vni": 7, "sender": 0}, Differences: 1,
				},
			}
			return serveControl(path, cannedCommands(s, []control.Peer{}, nil, 1))
		},
		"instead": func(path string) (func(), error) {
			s := control.Status{
				Process: control.Process{Program: "vxsnd", Version: "devel", PID: 1}, Ready: true, Engine: "raw", VxfldPort: 10001, ProtocolVersion: 3,
				EngineReason: "load the kernel program: without CAP_BPF: operation not permitted",
			}
			return serveControl(path, cannedCommands(s, []control.Peer{}, nil, 1))
		},
		"failing": func(path string) (func(), error) {
			return serveControl(path, failing(errors.New("the table is on fire")))
		},
		"refusing": func(path string) (func(), error) {
			return serveControl(path, failing(&control.Error{Code: control.CodeBadArgument, Text: "vni: no such thing", Hint: "take another one"}))
		},
		"old":   func(path string) (func(), error) { return serveControl(path, []control.Command{{Name: "hello"}}) },
		"newer": func(path string) (func(), error) { return saying(path, `{"version":2,"done":true}`+"\n") },
		"dying": func(path string) (func(), error) { return saying(path, `{"version":1,"data":[]}`+"\n") },
		"odd":   func(path string) (func(), error) { return saying(path, `{"version":1,"data":7}`+"\n") },
		"mute":  func(path string) (func(), error) { return saying(path, `{"version":1,"end":true}`+"\n") },
		"gone": func(path string) (func(), error) {
			l, err := net.Listen("unix", path)
			if err != nil {
				return nil, err
			}
			l.(*net.UnixListener).SetUnlinkOnClose(false)
			return func() {}, l.Close()
		},
	}
	runCtlScripts(t, "testdata/vxsndctl", daemons)
}

// runCtlScripts runs the scripts of a directory against daemons, whose sockets
// are in the directory that $D names.
func runCtlScripts(t *testing.T, dir string, daemons map[string]func(path string) (func(), error)) {
	testscript.Run(t, testscript.Params{
		Dir:                 dir,
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Deadline:            time.Now().Add(2 * patience),
		Setup: func(e *testscript.Env) error {
			e.Setenv("LC_ALL", "C")
			e.Setenv("TZ", "UTC")
			e.Setenv("GORACE", noRaceSleep)
			// Their names are short, for the path of a socket has 107 bytes at most.
			dir, err := os.MkdirTemp("", "ctl")
			if err != nil {
				return err
			}
			e.Defer(func() { _ = os.RemoveAll(dir) })
			e.Setenv("D", dir)
			for name, start := range daemons {
				stop, err := start(filepath.Join(dir, name))
				if err != nil {
					return err
				}
				e.Defer(stop)
			}
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){"status": cmdStatus},
	})
}

// A gate is an output that nobody reads until it is opened.
type gate struct {
	open chan struct{}
	bytes.Buffer
}

func (g *gate) Write(b []byte) (int, error) {
	<-g.open
	return g.Buffer.Write(b)
}

func TestAPagerThatWaitsDoesNotHoldTheDaemonUp(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	path := filepath.Join(t.TempDir(), "s")
	sent := make(chan struct{})
	const parts = 2000 // more than sockets and buffers hold
	stop, err := serveControl(path, []control.Command{{Name: control.CommandFDB,
		Run: func(_ context.Context, call *control.Call) error {
			for range parts {
				if err := call.Send(cannedFDB()); err != nil {
					return err
				}
			}
			close(sent)
			return nil
		}}})
	if err != nil {
		t.Fatal(err)
	}
	defer stop()
	g := &gate{open: make(chan struct{})}
	done := make(chan error)
	go func() { done <- vxsndctl.run([]string{"fdb", "-u", path, "--json"}, g, io.Discard) }()
	select {
	case <-sent:
	case err := <-done:
		t.Fatalf("got %v before the output was read, want all to be sent", err)
	case <-time.After(patience):
		t.Fatal("got a daemon that waits, want all to be sent")
	}
	close(g.open)
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	var got []control.FDBEntry
	if err := json.Unmarshal(g.Bytes(), &got); err != nil || len(got) != parts*len(cannedFDB()) {
		t.Errorf("got %d entries and %v, want %d", len(got), err, parts*len(cannedFDB()))
	}
}

// A full is an output that takes nothing.
type full struct{ err error }

func (f full) Write([]byte) (int, error) { return 0, f.err }

func TestAnOutputThatFailsIsReported(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	stop, err := serveControl(path, cannedCommands(cannedStatus(), cannedPeers(), cannedFDB(), 1))
	if err != nil {
		t.Fatal(err)
	}
	defer stop()
	broken := errors.New("no space")
	for _, args := range [][]string{{"show"}, {"peers"}, {"peers", "-j"}, {"fdb"}, {"fdb", "-j"}, {"fdb", "--json"}} {
		if err := vxsndctl.run(append(args, "-u", path), full{broken}, io.Discard); !errors.Is(err, broken) {
			t.Errorf("%q: got %v, want %v", args, err, broken)
		}
		if err := vxsndctl.run(append(args, "-u", path), full{syscall.EPIPE}, io.Discard); err != nil {
			t.Errorf("%q: got %v of a reader that has left, want nil", args, err)
		}
	}
}

func TestUptimeIsShortAndExact(t *testing.T) {
	for seconds, want := range map[int64]string{0: "0s", 59: "59s", 3600: "1h0m0s", 86399: "23h59m59s", 86400: "1d0s", 90061: "1d1h1m1s"} {
		if got := uptime(seconds); got != want {
			t.Errorf("%d: got %s, want %s", seconds, got, want)
		}
	}
}

func TestAddressesOfAnyLengthStayInLine(t *testing.T) {
	var b screen
	s := control.Status{SrcIP: netip.MustParseAddr("2001:db8:1111:2222:3333:4444:5555:6666"), Peers: []string{"a", "b", "c"}}
	showAddresses(&b, &s)
	lines := strings.Split(b.String(), "\n")
	want := strings.Index(lines[1], "Peer")
	for i, peer := range map[int]string{3: "a, b", 4: "c"} {
		if got := strings.Index(lines[i], peer); got != want {
			t.Errorf("got %q in column %d of %q, want %d", peer, got, lines[i], want)
		}
	}
}
