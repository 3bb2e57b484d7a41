// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"vxsnd/internal/netlab"
)

// A node is a machine that vxsnd runs on.
type node struct {
	*machine
	proc *netlab.Process
	// dir has the configuration file vxsnd.conf and the management socket
	// vxsnd.sock of what was launched last. It is writable for everybody.
	dir string
	// registers says that it is a vxrd, which floods nothing.
	registers bool
	// ended are the processes that a test has ended itself.
	ended []*netlab.Process
	// logFlags are what the command line says of the log; nil stands for what
	// tests read: debug, to stdout.
	logFlags []string
	// log returns what has been logged where that does not go to the output.
	log func() string
	// mishaps are the messages of errors that a test has the program log.
	mishaps []string
}

// node adds the machine 192.0.2.254 and starts vxsnd there with one worker, so
// that what one VTEP sends is handled in order, and the given configuration.
func (l *lab) node(config ...string) *node {
	l.t.Helper()
	n := l.idle()
	n.start(append([]string{"workers = 1"}, config...)...)
	return n
}

// idle adds the machine of node and starts nothing there.
func (l *lab) idle() *node {
	l.t.Helper()
	return &node{machine: l.machine("node", nodeAddr+"/24")}
}

// start runs vxsnd with the given configuration and waits until it is ready.
// When the test ends it must still run, and stop with status 0.
func (n *node) start(config ...string) {
	n.lab.t.Helper()
	n.startAs(exec.Command(program(n.lab.t)), config...)
}

// startAs is start for a command with an environment or a user of its own.
func (n *node) startAs(cmd *exec.Cmd, config ...string) {
	n.lab.t.Helper()
	n.proc = n.launch(cmd, config...)
	n.ready()
	n.settled()
	proc := n.proc
	n.lab.t.Cleanup(func() {
		if n.lab.t.Failed() {
			n.lab.t.Logf("output of %s:\n%s%s", n.Name, tail(proc.Output()), tail(n.elsewhere()))
		}
	})
	n.lab.t.Cleanup(func() {
		for _, f := range lines(proc.Output() + n.elsewhere()) {
			if f["level"] == "error" && !slices.Contains(n.mishaps, f["msg"]) {
				n.lab.t.Errorf("got an error logged: %q", f)
			}
		}
		if slices.Contains(n.ended, proc) {
			return // the test has looked at the status
		}
		select {
		case <-proc.Done():
			n.lab.t.Error("vxsnd ended before the test")
			return
		default:
		}
		// The test's own context has ended by now.
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if status, err := proc.Stop(ctx); status != 0 || err != nil {
			n.lab.t.Errorf("stop: got status %d, error %v, want 0", status, err)
		}
	})
}

// launch starts cmd as vxsnd with the given configuration and what every test
// wants on its command line.
func (n *node) launch(cmd *exec.Cmd, config ...string) *netlab.Process {
	n.lab.t.Helper()
	// The directory of a test is its owner's; the program may be another's.
	n.dir = must(os.MkdirTemp(binaryDir, "node-"))(n.lab.t)
	check(n.lab.t, os.Chmod(n.dir, 0o777))
	n.configure(config...)
	flags := n.logFlags
	if flags == nil {
		flags = []string{"-l", "stdout", "-L", "debug"}
	}
	cmd.Args = append(append(cmd.Args, "-c", n.file("vxsnd.conf"), "-u", n.file("vxsnd.sock")), flags...)
	return must(n.Start(cmd))(n.lab.t)
}

// file returns the full name of a file in the node's directory.
func (n *node) file(name string) string { return filepath.Join(n.dir, name) }

// configure writes the configuration file. A program that reads it meanwhile
// gets the old one or the new one.
func (n *node) configure(config ...string) {
	n.lab.t.Helper()
	if e := n.lab.engine.config(); e != "" { // else problems are told with the numbers of these lines
		config = append([]string{e}, config...)
	}
	next := n.file("vxsnd.conf.new")
	check(n.lab.t, os.WriteFile(next, []byte(strings.Join(config, "\n")+"\n"), 0o644))
	check(n.lab.t, os.Rename(next, n.file("vxsnd.conf")))
}

// ready waits until vxsnd says that its sockets are bound.
func (n *node) ready() {
	n.lab.t.Helper()
	if n.log == nil {
		must(n.proc.WaitLine(within(n.lab.t), says("ready")))(n.lab.t)
		return
	}
	ended := false
	err := netlab.Wait(within(n.lab.t), "a node that is ready", func() bool {
		select {
		case <-n.proc.Done():
			ended = true
		default:
		}
		return ended || len(with(lines(n.log()), "ready")) > 0
	})
	if err != nil || ended {
		n.lab.t.Fatalf("ended: %t, error: %v; log:\n%s\noutput:\n%s", ended, err, tail(n.log()), tail(n.proc.Output()))
	}
}

// elsewhere returns what was logged and is not part of the output.
func (n *node) elsewhere() string {
	if n.log == nil {
		return ""
	}
	return n.log()
}

// says matches log lines with the given message.
func says(msg string) func(string) bool {
	return func(line string) bool { return fields(line)["msg"] == msg }
}

// end ends vxsnd with a signal and returns its exit status.
func (n *node) end(signal syscall.Signal) (status int) {
	n.lab.t.Helper()
	n.ended = append(n.ended, n.proc)
	check(n.lab.t, n.proc.Signal(signal))
	return must(n.proc.Wait(within(n.lab.t)))(n.lab.t)
}

// stop ends vxsnd with SIGTERM, fails the test unless its status is 0, and
// returns what it counted.
func (n *node) stop() counters {
	n.lab.t.Helper()
	if status := n.end(syscall.SIGTERM); status != 0 {
		n.lab.t.Fatalf("got status %d, want 0; output:\n%s", status, tail(n.proc.Output()))
	}
	var stopped []map[string]string
	// Who reads a log elsewhere may be behind.
	err := netlab.Wait(within(n.lab.t), "a line 'stopped'", func() bool {
		stopped = with(lines(n.proc.Output()+n.elsewhere()), "stopped")
		return len(stopped) > 0
	})
	if err != nil {
		n.lab.t.Fatalf("%v; output:\n%s%s", err, tail(n.proc.Output()), tail(n.elsewhere()))
	}
	return counters{t: n.lab.t, fields: stopped[0]}
}

// counters are the figures that vxsnd logs when it stops.
type counters struct {
	t      *testing.T
	fields map[string]string
}

// get returns a figure; one that is not named is 0.
func (c counters) get(name string) int {
	c.t.Helper()
	s, ok := c.fields[name]
	if !ok {
		return 0
	}
	return must(strconv.Atoi(s))(c.t)
}

// drops returns how often the given reason for a drop was counted.
func (c counters) drops(reason string) int {
	c.t.Helper()
	for _, kv := range strings.Fields(c.fields["drops"]) {
		if k, v, ok := strings.Cut(kv, "="); ok && k == reason {
			return must(strconv.Atoi(v))(c.t)
		}
	}
	return 0
}

// wantDrops fails the test unless a reason was counted that often.
func (c counters) wantDrops(reason string, want int) {
	c.t.Helper()
	if got := c.drops(reason); got != want {
		c.t.Errorf("got %d drops %q, want %d (all: %q)", got, reason, want, c.fields["drops"])
	}
}

// fields splits a log line of the form key=value key="quoted value".
func fields(line string) map[string]string {
	out := make(map[string]string)
	for line = strings.TrimSpace(line); line != ""; line = strings.TrimLeft(line, " ") {
		k, rest, ok := strings.Cut(line, "=")
		if !ok {
			break
		}
		quoted, err := strconv.QuotedPrefix(rest)
		if err == nil {
			out[k], _ = strconv.Unquote(quoted)
			line = rest[len(quoted):]
			continue
		}
		out[k], line, _ = strings.Cut(rest, " ")
	}
	return out
}

// containsWord tells whether a line has the word, not as a part of a longer
// number or address.
func containsWord(line, word string) bool {
	return slices.Contains(strings.FieldsFunc(line, func(r rune) bool {
		return r == ' ' || r == '=' || r == '"' || r == ','
	}), word)
}

// tail cuts long output to its last part.
func tail(s string) string {
	const limit = 8000
	if len(s) <= limit {
		return s
	}
	return fmt.Sprintf("(%d bytes left out)…%s", len(s)-limit, s[len(s)-limit:])
}
