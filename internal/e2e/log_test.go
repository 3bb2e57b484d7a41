// SPDX-License-Identifier: Apache-2.0

package e2e

// The log of a node in syslog, and as JSON.
//
//	node 192.0.2.254
//	      │
//	── switch ──
//	      │
//	      1      192.0.2.1, which registers

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"vxsnd/internal/vxlan"
)

// syslogNode adds a node with a configuration as it is installed, so that it
// logs to syslog, and a VTEP that may register with it. Nothing runs yet.
func (l *lab) syslogNode() (n *node, d *devLog, a *agent) {
	l.t.Helper()
	n = l.idle()
	n.logFlags = []string{}
	d = n.devLog()
	n.log = d.text
	return n, d, l.vtep(1).agent(n)
}

// Each line has the severity of its level, the name of the program and the
// number of the process, and nothing is written elsewhere.
func TestSyslog(t *testing.T) {
	t.Parallel()
	n, d, a := newLab(t, 0).syslogNode()
	d.start()
	stock := []string{markerConfig(a.machine), absent(logVNI, nodeAddr)}
	n.startAs(in(t, d.enter...), stock...)
	a.registerAll(logVNI, 1000, 1001) // a line of level debug

	n.mishaps = []string{msgKept, "vxsnd failed"}
	reload := func(msg string, config ...string) {
		t.Helper()
		n.configure(append(config, stock...)...)
		before := len(with(lines(d.text()), msg))
		n.signal(syscall.SIGHUP)
		n.waitFor("a line "+msg, func() bool { return len(with(lines(d.text()), msg)) > before })
	}
	reload(msgKept, "holdtime = 0")
	reload(msgReloaded, "loglevel = debug")
	a.registerAll(logVNI, 1001, 1002)
	first := n.proc
	n.stop()
	if out := first.Output(); out != "" {
		t.Errorf("got %q on stdout and stderr, want nothing", out)
	}

	priorities := map[string]string{"debug": "31", "info": "30", "warning": "28", "error": "27"}
	seen := make(map[string]int)
	for _, m := range d.messages() {
		parts := syslogMessage.FindStringSubmatch(m)
		if parts == nil {
			continue // text has told
		}
		f := fields(parts[4])
		seen[f["level"]]++
		if parts[1] != priorities[f["level"]] || parts[2] != "vxsnd" || parts[3] != strconv.Itoa(first.PID()) || f["time"] != "" {
			t.Errorf("got message %q, want priority %s, vxsnd[%d] and no second time", m, priorities[f["level"]], first.PID())
		}
	}
	for level := range priorities {
		if seen[level] == 0 {
			t.Errorf("got no message of level %s, want some", level)
		}
	}
	if got := holdtimes(t, d.text(), 1000); !slices.Equal(got, []uint32{1001}) {
		t.Errorf("got registrations %v logged, want that at level debug alone", got)
	}

	// A start that fails is told there as well.
	n.listen(ctlPort)
	p := n.launch(in(t, d.enter...), stock...)
	wantRefusal(t, p, strconv.Itoa(ctlPort))
	n.waitFor("a message of the failure", func() bool {
		return slices.ContainsFunc(d.messages(), func(m string) bool {
			return strings.HasPrefix(m, "<27>") && strings.Contains(m, "vxsnd["+strconv.Itoa(p.PID())+"]") && strings.Contains(m, strconv.Itoa(ctlPort))
		})
	})
}

// What syslogd does not take while it is away is on standard error, behind a
// warning; no line is lost, and none is in both places.
func TestSyslogRestarts(t *testing.T) {
	t.Parallel()
	n, d, a := newLab(t, 0).syslogNode()
	next := uint32(1000)
	register := func() uint32 {
		t.Helper()
		a.registerAll(logVNI, next, next+10)
		next += 10
		return next - 1
	}
	logged := func(log func() string, h uint32) {
		t.Helper()
		n.waitFor("registration "+strconv.Itoa(int(h)), func() bool { return slices.Contains(holdtimes(t, log(), h), h) })
	}
	d.start()
	n.startAs(in(t, d.enter...), "loglevel = debug", markerConfig(a.machine))
	output := n.proc.Output
	logged(d.text, register())

	// A new one takes the place of the old one between two lines.
	d.end()
	d.start()
	logged(d.text, register())
	if out := output(); out != "" {
		t.Errorf("got %q on standard error after a restart, want nothing", out)
	}

	for outage := 1; outage <= 2; outage++ {
		d.end()
		logged(output, register())
		if got := with(lines(output()), msgNoSyslog); len(got) != outage || got[outage-1]["level"] != "warning" || got[outage-1]["error"] == "" {
			t.Errorf("got %q, want a warning for each of %d times without syslogd", got, outage)
		}
		d.start()
		back := func() int { return len(with(lines(d.text()), msgSyslogBack)) }
		n.waitFor("a line that says that it is back", func() bool {
			register()
			return back() >= outage
		})
		logged(d.text, register())
		if got := back(); got != outage {
			t.Errorf("got %d lines that syslog is back, want %d", got, outage)
		}
	}
	n.stop()
	all := append(holdtimes(t, d.text(), 1000), holdtimes(t, output(), 1000)...)
	slices.Sort(all)
	for i, h := range all {
		if h != 1000+uint32(i) {
			t.Fatalf("got registrations %v in both logs, want each once", all)
		}
	}
	if len(all) != int(next-1000) {
		t.Errorf("got %d registrations logged, want %d", len(all), next-1000)
	}
}

// What the log says of syslog.
const (
	msgNoSyslog   = "syslog cannot be reached, log lines go to stderr"
	msgSyslogBack = "log lines go to syslog now"
)

// Without syslogd the node starts all the same, and says on standard error what
// it has to say, until there is one.
func TestSyslogComesLater(t *testing.T) {
	t.Parallel()
	n, d, a := newLab(t, 0).syslogNode()
	n.log = nil
	n.startAs(in(t, d.enter...), markerConfig(a.machine), memberConfig([]vxlan.VNI{logVNI}, a.machine))
	first := lines(n.proc.Output())[0]
	if first["msg"] != msgNoSyslog || first["level"] != "warning" || !strings.Contains(first["error"], "/dev/log") {
		t.Errorf("got %q as the first line, want a warning that /dev/log is not there", first)
	}
	d.start()
	n.waitFor("a line in syslog", func() bool {
		n.signal(syscall.SIGUSR1)
		return len(with(lines(d.text()), msgSyslogBack)) > 0
	})
	before := n.proc.Output()
	n.log = d.text
	n.stop()
	if after := n.proc.Output(); after != before || len(with(lines(before), msgNoSyslog)) != 1 {
		t.Errorf("got %q on standard error, want one warning, and nothing once syslogd is there", after)
	}
}

// From the background nobody sees standard error, so the command itself warns.
func TestBackgroundWithoutSyslog(t *testing.T) {
	t.Parallel()
	n, vs := newLab(t, 0).backgroundNode()
	d := n.devLog()
	// The daemon's standard error, which is nothing but a file here.
	null := filepath.Join(d.dir, "null")
	check(t, os.WriteFile(null, nil, 0o666))
	// Who enters a mount namespace is in its root.
	enter := append(d.enter, "sh", "-c", `cd "$0" && exec "$@"`, n.dir)
	status, said := n.command(in(t, enter...), "-l", "syslog")
	if status != 0 || strings.Count(said, "\n") != 1 || !strings.HasPrefix(said, "vxsnd: warning: ") || !strings.Contains(said, "/dev/log") {
		t.Errorf("got status %d and %q, want 0 and a warning that there is no syslog", status, said)
	}
	b := n.daemon("vxsnd.pid")
	wantMember(t, n, vs[0], vs[1], backgroundVNI, true)
	d.start()
	n.waitFor("a line in syslog", func() bool {
		b.signal(syscall.SIGUSR1)
		return len(with(lines(d.text()), msgSyslogBack)) > 0
	})
	b.end(syscall.SIGTERM)

	if status, said := n.command(in(t, enter...), "-l", "syslog"); status != 0 || said != "" {
		t.Errorf("got status %d and %q with a syslogd, want 0 and silence", status, said)
	}
	n.daemon("vxsnd.pid").end(syscall.SIGTERM)
}

// With log_format json each line is an object with the same fields, wherever it
// goes and whatever it tells of.
func TestJSONLog(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name  string
		start func(n *node, config ...string)
	}{
		{
			name: "stdout",
			start: func(n *node, config ...string) {
				n.logFlags = []string{"-l", "stdout"}
				n.log = func() string { return n.proc.Output() }
				n.start(config...)
			},
		},
		{
			name: "file",
			start: func(n *node, config ...string) {
				name := filepath.Join(logDir(n.lab.t), "vxsnd.log")
				n.logFlags = []string{"-l", name}
				n.log = func() string { return contents(n.lab.t, name) }
				n.start(config...)
			},
		},
		{
			name: "syslog",
			start: func(n *node, config ...string) {
				d := n.devLog()
				d.start()
				n.logFlags = []string{}
				n.log = d.text
				n.startAs(in(n.lab.t, d.enter...), config...)
			},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			l := newLab(t, 0)
			v := l.vtep(1)
			n := l.idle()
			config := []string{"log_format = json", "loglevel = debug", markerConfig(v), memberConfig([]vxlan.VNI{logVNI}, v)}
			tt.start(n, config...)
			a := v.agent(n)
			a.registerAll(logVNI, 1000, 1005)
			a.write([]byte{9, 8, 7}) // is refused, with a warning
			a.ask()
			n.signal(syscall.SIGUSR1)
			n.waitFor("a summary", func() bool { return len(with(lines(n.log()), "table: members")) > 0 })
			n.mishaps = []string{msgKept}
			hostile := "\"quoted\" \\ </script>&\t\x1b[31m\xff\u2028{\"level\":\"x\"}"
			n.configure(append(config, "holdtime = "+hostile)...)
			n.signal(syscall.SIGHUP)
			n.waitFor("a reload that is refused", func() bool { return len(with(lines(n.log()), msgKept)) > 0 })
			n.stop()

			levels := make(map[string]bool)
			for line := range strings.Lines(n.log()) {
				var f map[string]any
				if err := json.Unmarshal([]byte(line), &f); err != nil {
					t.Errorf("got %q: %v", line, err)
					continue
				}
				level, _ := f["level"].(string)
				levels[level] = true
				when, _ := f["time"].(string)
				if _, err := time.Parse(time.RFC3339, when); err != nil || f["msg"] == "" || f["msg"] == nil {
					t.Errorf("got %q, want time, level and msg: %v", line, err)
				}
				switch f["msg"] {
				case msgRegistered:
					if _, ok := f["holdtime"].(float64); !ok || !strings.HasPrefix(f["src"].(string), v.addr.String()+":") {
						t.Errorf("got %q, want holdtime as a number and the source as text", line)
					}
				case msgKept:
					if text, _ := f["error"].(string); !strings.Contains(text, "</script>&") {
						t.Errorf("got %q, want the error to show the value", line)
					}
				}
			}
			for _, level := range []string{"debug", "info", "warning", "error"} {
				if !levels[level] {
					t.Errorf("got no line of level %s, want some", level)
				}
			}
			if got := holdtimes(t, n.log(), 1000); !slices.Equal(got, []uint32{1000, 1001, 1002, 1003, 1004}) {
				t.Errorf("got registrations %v, want five", got)
			}
		})
	}
}
