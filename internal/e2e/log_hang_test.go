// SPDX-License-Identifier: Apache-2.0

package e2e

// A log that goes nowhere holds nothing up: a syslogd that hangs, a pipe that
// nobody reads, a disk that is full.
//
//	node 192.0.2.254
//	      │
//	── switch ──────────
//	  │       │       │
//	  1       2       3      192.0.2.N; 3 registers

import (
	"slices"
	"strings"
	"syscall"
	"testing"

	"vxsnd/internal/netlab"
	"vxsnd/internal/vxlan"
)

const logVNI vxlan.VNI = 70

// firstHoldtime is that of the first registration that tests look for in a log:
// each has another.
const firstHoldtime uint32 = 1000

// sinks are the destinations that a log may hang in. start starts a node that
// logs all there is.
var sinks = []struct {
	name  string
	start func(t *testing.T, n *node, config ...string) sink
	tears bool // whether a piece of a line may stay, as a line of its own
}{
	{
		name: "syslog",
		start: func(t *testing.T, n *node, config ...string) sink {
			d := n.devLog()
			d.start()
			n.log, n.logFlags = d.text, []string{"-L", "debug"}
			n.startAs(in(t, d.enter...), config...)
			return d
		},
	},
	{
		name: "pipe",
		start: func(t *testing.T, n *node, config ...string) sink {
			p, enter := newPipe(t)
			n.log = p.text
			n.startAs(in(t, enter...), config...)
			return p
		},
	},
	{name: "disk", start: startOnDisk, tears: true},
	{
		name:  "disk with rotation",
		tears: true,
		start: func(t *testing.T, n *node, config ...string) sink {
			return startOnDisk(t, n, append(config, "logfilesize = 8192", "logbackupcount = 1000")...)
		},
	},
}

func startOnDisk(t *testing.T, n *node, config ...string) sink {
	d := n.disk(512 << 10)
	n.log, n.logFlags = d.text, []string{"-l", d.name, "-L", "debug"}
	// A piece of a line is not JSON, so it is not taken for a line.
	n.startAs(in(t, d.root...), append([]string{"log_format = json", "logfilesize = 0"}, config...)...)
	return d
}

// While the log takes nothing, each packet is copied once and each registration
// taken in. The lines that are lost are counted, and reported when the log goes
// on.
func TestLogThatTakesNothing(t *testing.T) {
	t.Parallel()
	const rounds, burst, each = 15, 20, 100
	for _, tt := range sinks {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			l := newLab(t, 0)
			vs := l.vteps(3)
			n := l.idle()
			s := tt.start(t, n, "workers = 1", "learning = off", markerConfig(vs...), memberConfig([]vxlan.VNI{logVNI}, vs[:2]...))
			a := vs[2].agent(n)
			next, packets := firstHoldtime, 0
			register := func(count uint32) {
				t.Helper()
				a.registerAll(logVNI, next, next+count)
				next += count
			}
			work := func() {
				t.Helper()
				register(each)
				var fs [][]byte
				for range burst {
					fs = append(fs, frame(netlab.Broadcast, packets, 64))
					packets++
				}
				vs[0].flood(n, logVNI, fs...)
				vs[0].flush(n, vs...)
			}
			work()
			n.waitFor("the log to be written", func() bool { return slices.Contains(holdtimes(t, s.text(), 0), next-1) })
			if got := n.status().LogLinesLost; got != 0 {
				t.Errorf("got %d lines lost before anything hangs, want none", got)
			}

			s.hang()
			ctx := within(t)
			for round := 0; round < rounds || n.status().LogLinesLost == 0; round++ {
				if ctx.Err() != nil {
					t.Fatal("got no line lost, want those for which there was no room")
				}
				work()
			}
			s.resume()
			// Until what has waited is written, more may be lost.
			n.waitFor("the log to catch up, and report all lost lines", func() bool {
				before := next
				register(1)
				log := s.text()
				lost := reportedLost(t, log)
				return lost > 0 && lost == n.status().LogLinesLost && slices.Contains(holdtimes(t, log, before-1), before-1)
			})
			again := next
			work()
			c := n.stop()

			log := s.text()
			got := holdtimes(t, log, firstHoldtime)
			if !slices.IsSorted(got) || len(slices.Compact(slices.Clone(got))) != len(got) {
				t.Errorf("got registrations %v in the log, want each once, in order", got)
			}
			lost := reportedLost(t, log)
			missing := uint64(next-firstHoldtime) - uint64(len(got))
			if missing == 0 || missing > lost {
				t.Errorf("got %d lines missing and %d reported, want what is missing reported", missing, lost)
			}
			if i := slices.Index(got, again); i < 0 || len(got[i:]) != each {
				t.Errorf("got registrations %v after the log went on, want all %d", got[max(i, 0):], each)
			}
			for _, f := range lines(log) {
				if !tt.tears && (f["level"] == "" || f["msg"] == "") {
					t.Errorf("got line %q, want no piece of one", f)
				}
			}
			for _, v := range vs[1:] {
				copies := v.got()
				if len(copies) != packets {
					t.Errorf("%s: got %d packets, want %d", v.Name, len(copies), packets)
				}
				for i, g := range copies {
					if number(g.inner) != i {
						t.Fatalf("%s: got packet %d at position %d", v.Name, number(g.inner), i)
					}
				}
			}
			if c.fields["drops"] != "" {
				t.Errorf("got drops %q, want none", c.fields["drops"])
			}
			if out := n.proc.Output(); out != "" {
				t.Errorf("got %q on standard error, want nothing", out)
			}
		})
	}
}

// A node stops while the log takes nothing, and says that lines are lost.
func TestStopWhileLogTakesNothing(t *testing.T) {
	t.Parallel()
	for _, tt := range sinks {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			l := newLab(t, 0)
			v := l.vtep(1)
			n := l.idle()
			s := tt.start(t, n, "workers = 1", markerConfig(v))
			a := v.agent(n)
			s.hang()
			next := firstHoldtime
			n.waitFor("a line that is lost", func() bool {
				a.registerAll(logVNI, next, next+200)
				next += 200
				return n.status().LogLinesLost > 0
			})
			status := n.end(syscall.SIGTERM)
			if out := n.proc.Output(); status != 0 || strings.Count(out, "\n") != 1 ||
				!strings.HasPrefix(out, "vxsnd: warning: ") || !strings.Contains(out, "lost") {
				t.Errorf("got status %d and %q, want 0 and a warning that lines are lost", status, out)
			}
		})
	}
}
