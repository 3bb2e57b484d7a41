// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"vxsnd/internal/config"
	"vxsnd/internal/control"
	"vxsnd/internal/logging"
	"vxsnd/internal/process"
)

// A buffer is what somebody writes and somebody else reads.
type buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

// take returns what was written since the last call.
func (b *buffer) take() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	defer b.b.Reset()
	return b.b.String()
}

// A steered is a daemon that runs and that a client tells what to do.
type steered struct {
	*daemon
	t    *testing.T
	file string
	sock string
	sig  *signals
	out  *buffer
	stop func()
}

// newSteered returns a daemon that runs with the configuration given. does is what
// the fake does, or "node" for a service node.
func newSteered(t *testing.T, does, text string, flags ...config.Flag) *steered {
	t.Helper()
	dir := t.TempDir()
	s := &steered{
		t: t, file: filepath.Join(dir, "conf"), out: &buffer{},
		sig: &signals{reload: make(chan os.Signal, 1), summary: make(chan os.Signal, 1)},
	}
	s.write(text)
	s.daemon = newDaemon(config.Vxsnd, &commandLine{file: s.file, options: flags}, s.out, s.out)
	s.input.RuntimeDir = dir
	if err := s.load(); err != nil {
		t.Fatal(err)
	}
	s.sock = s.running.UDSFile
	var err error
	if s.log, err = logging.Open(logging.Options{Level: logLevels[s.running.LogLevel], Stdout: s.out}); err != nil {
		t.Fatal(err)
	}
	if s.notify, err = process.NewNotifier(); err != nil {
		t.Fatal(err)
	}
	build := func() (service, error) { return newFake(does, s.running, s.log) }
	if does == "node" {
		build = func() (service, error) { return newNodeService(s.running, s.log) }
	}
	if s.service, err = build(); err != nil {
		t.Fatal(err)
	}
	// Not open: the test goes on with its privileges.
	if err := errors.Join(s.service.Listen(t.Context()), s.listenControl(), s.listenMetrics()); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.loop(ctx, s.sig) }()
	s.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("loop: got %v", err)
		}
		if err := s.service.Close(); err != nil {
			t.Errorf("close: got %v", err)
		}
		s.notify.Close()
		if err := s.log.Close(); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(s.stop)
	return s
}

func (s *steered) write(text string) {
	s.t.Helper()
	if err := os.WriteFile(s.file, []byte(text), 0o600); err != nil {
		s.t.Fatal(err)
	}
}

// call asks the daemon for something and returns its one answer.
func (s *steered) call(command string, args any) (data json.RawMessage, err error) {
	s.t.Helper()
	c, err := control.Dial(s.t.Context(), s.sock)
	if err != nil {
		s.t.Fatal(err)
	}
	defer c.Close()
	err = c.Call(s.t.Context(), command, args, func(d json.RawMessage) error {
		data = bytes.Clone(d)
		return nil
	})
	return data, err
}

// change asks the daemon for a change and returns what came of it, one thing a
// line: "+" for what changed, "!" for what needs a restart, and warnings and
// errors with the hint.
func (s *steered) change(command string, args any) string {
	s.t.Helper()
	data, err := s.call(command, args)
	if err != nil {
		var e *control.Error
		if !errors.As(err, &e) {
			s.t.Fatal(err)
		}
		return e.Code + ": " + e.Text + " (" + e.Hint + ")\n"
	}
	var r control.ReloadReport
	if err := json.Unmarshal(data, &r); err != nil {
		s.t.Fatal(err)
	}
	var b strings.Builder
	for _, c := range r.Changed {
		b.WriteString("+ " + c.Name + " " + c.Old + " " + c.New + "\n")
	}
	for _, c := range r.Restart {
		b.WriteString("! " + c.Name + " " + c.Old + " " + c.New + "\n")
	}
	for _, w := range r.Warnings {
		b.WriteString("warning: " + w + "\n")
	}
	for _, e := range r.Errors {
		b.WriteString("error: " + e.Text + " (" + e.Hint + ")\n")
	}
	return strings.ReplaceAll(b.String(), s.file, "FILE")
}

func (s *steered) set(name, value string) string {
	return s.change(control.CommandSetConfig, control.SetConfigArgs{Name: name, Value: value})
}

func (s *steered) debug(on bool) string {
	return s.change(control.CommandSetDebug, control.SetDebugArgs{On: on})
}

func (s *steered) reloads() string { return s.change(control.CommandReload, nil) }

// value returns what the daemon says of one option, with "*" behind what was set.
func (s *steered) value(name string) string {
	s.t.Helper()
	data, err := s.call(control.CommandConfig, control.ConfigArgs{Name: name})
	if err != nil {
		s.t.Fatal(err)
	}
	var vs []control.ConfigValue
	if err := json.Unmarshal(data, &vs); err != nil || len(vs) != 1 {
		s.t.Fatalf("got %s and %v, want one value", data, err)
	}
	if vs[0].Set {
		return vs[0].Value + "*"
	}
	return vs[0].Value
}

// expect compares and goes on.
func (s *steered) expect(what, got, want string) {
	s.t.Helper()
	if diff := cmp.Diff(want, got); diff != "" {
		s.t.Errorf("%s: (-want +got)\n%s", what, diff)
	}
}

// logs waits for a text in the log.
func (s *steered) logs(want string) {
	s.t.Helper()
	var all string
	if !waitFor(func() bool {
		all += s.out.take()
		return strings.Contains(all, want)
	}) {
		s.t.Errorf("got log %q, want %q in it", all, want)
	}
}

func TestSetConfigLastsUntilAReload(t *testing.T) {
	s := newSteered(t, "run", "holdtime = 60\nloglevel = info\nlogdest = stdout\n")
	s.expect("set", s.set("holdtime", "70s"), "+ holdtime 60 70\n")
	s.logs("fake changes\" holdtime=1m10s")
	s.expect("set another", s.set("Learning", "OFF"), "+ learning any off\n")
	s.expect("set by an older name, with hyphens", s.set("no-replicate", "yes"), "+ no_flood false true\n")
	s.expect("holdtime", s.value("holdtime"), "70*")
	s.expect("learning", s.value("learning"), "off*")
	s.expect("age_check", s.value("age_check"), "90")
	s.expect("set again", s.set("holdtime", "71"), "+ holdtime 70 71\n")
	s.expect("set to what it is", s.set("holdtime", "71"), "")

	// The file is about to change, and has no say before the reload.
	s.write("holdtime = 80\nage_check = 5\nvxfld_port = 7\nlogdest = stdout\n")
	s.expect("set beside a file that changed", s.set("max_vnis", "3"), "+ max_vnis 65536 3\n")
	s.expect("reload", s.reloads(), "+ no_flood true false\n+ holdtime 71 80\n+ age_check 90 5\n+ learning off any\n+ max_vnis 3 65536\n! vxfld_port 10001 7\n")
	s.expect("holdtime", s.value("holdtime"), "80")

	// What needs a restart was said.
	s.expect("set after that", s.set("holdtime", "81"), "+ holdtime 80 81\n")
	s.sig.reload <- os.Interrupt // whatever comes there
	s.logs(`msg="option changed" new=80 old=81 option=holdtime`)
	s.expect("holdtime after a signal", s.value("holdtime"), "80")
}

func TestSetConfigWinsOverFlags(t *testing.T) {
	s := newSteered(t, "run", "", config.Flag{Name: "--holdtime", Option: "holdtime", Value: "50"}, config.Flag{Name: "-l", Option: "logdest", Value: "stdout"})
	s.expect("set", s.set("holdtime", "51"), "+ holdtime 50 51\n")
	s.expect("reload", s.reloads(), "+ holdtime 51 50\n")
}

func TestSetConfigRefusals(t *testing.T) {
	s := newSteered(t, "run", "logdest = stdout\n")
	restart := func(name string) string {
		return "bad_argument: " + name + " needs a restart (write it to " + s.file + " and restart)\n"
	}
	for _, tt := range []struct{ name, option, value, want string }{
		{"unknown", "holdtme", "1", "bad_argument: \"holdtme\" is not an option of vxsnd (did you mean holdtime?)\n"},
		{"of the other program", "node_id", "1", "bad_argument: \"node_id\" is not an option of vxsnd ()\n"},
		{"of the past", "monitor", "1", "bad_argument: \"monitor\" is not an option of vxsnd ()\n"},
		{"nothing", "", "1", "bad_argument: \"\" is not an option of vxsnd ()\n"},
		{"that needs a restart", "vxfld_port", "1", restart("vxfld_port")},
		{"by its older name", "address", "192.0.2.1", restart("svcnode_ip")},
		{"that adds up", "vtep_membership", "192.0.2.1 1",
			"bad_argument: vtep_membership adds up over lines, and is not set (make members with fdb add or fdb file, or write them to " + s.file + " and reload)\n"},
		{"out of range", "holdtime", "0", "error: holdtime: 0 is out of range 1..65535 (the default is 90)\n"},
		{"no value", "holdtime", "", "error: holdtime: \"\" is not a number of whole seconds (1..65535) (the default is 90)\n"},
		{"with a line end", "loglevel", "info\nholdtime = 1", "error: loglevel: \"info\\nholdtime = 1\" is none of debug, info, warning, error, critical (the default is info)\n"},
		{"against another option", "vxfld_proxy_servers", "192.0.2.1",
			"error: vxfld_proxy_servers: needs area to be set (set area to the number of this node's area)\n"},
		{"a log file that cannot be", "logdest", "/proc/none/log", "error: open log file /proc/none/log: no such file or directory ()\n"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if diff := cmp.Diff(tt.want, s.set(tt.option, tt.value)); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
		})
	}
	s.expect("holdtime", s.value("holdtime"), "90")
	if got := s.out.take(); strings.Contains(got, "fake changes") {
		t.Errorf("got log %q, want no change in it", got)
	}
}

func TestSetConfigThatTheServiceRefuses(t *testing.T) {
	s := newSteered(t, "rigid", "logdest = stdout\n")
	const want = "error: no_flood: flooding cannot begin ()\n"
	s.expect("set", s.set("no_flood", "yes"), want)
	s.expect("reload", s.reloads(), want)
	s.expect("debug", s.debug(true), want)
	s.expect("no_flood", s.value("no_flood"), "false")
	s.expect("loglevel", s.value("loglevel"), "info")
}

func TestSetDebug(t *testing.T) {
	s := newSteered(t, "run", "loglevel = warning\nlogdest = stdout\n")
	s.expect("on", s.debug(true), "+ loglevel warning debug\n")
	s.expect("loglevel", s.value("loglevel"), "debug*")
	s.expect("on again", s.debug(true), "")
	s.expect("another option", s.set("holdtime", "5"), "+ holdtime 90 5\n")
	s.expect("off", s.debug(false), "+ loglevel debug warning\n")
	s.expect("loglevel", s.value("loglevel"), "warning")
	s.expect("off again", s.debug(false), "")
	s.expect("the other option", s.value("holdtime"), "5*")

	s.expect("set", s.set("loglevel", "info"), "+ loglevel warning info\n")
	s.expect("on over what was set", s.debug(true), "+ loglevel info debug\n")
	s.expect("off to what was set", s.debug(false), "+ loglevel debug info\n")
	s.expect("on", s.debug(true), "+ loglevel info debug\n")
	s.expect("a level ends it", s.set("loglevel", "error"), "+ loglevel debug error\n")
	s.expect("off", s.debug(false), "")
	s.expect("set to debug", s.set("loglevel", "Debug"), "+ loglevel error debug\n")
	s.expect("off ends that, too", s.debug(false), "+ loglevel debug warning\n")
	s.expect("on", s.debug(true), "+ loglevel warning debug\n")
	s.expect("reload", s.reloads(), "+ loglevel debug warning\n+ holdtime 5 90\n")
}

func TestSetDebugOffWhereItIsConfigured(t *testing.T) {
	s := newSteered(t, "run", "loglevel = debug\nlogdest = stdout\n")
	s.expect("off", s.debug(false), "warning: loglevel is debug by the configuration, too: set config loglevel info is another way\n")
	s.expect("set", s.set("loglevel", "info"), "+ loglevel debug info\n")
}

func TestReloadReportsAllThatIsWrong(t *testing.T) {
	s := newSteered(t, "run", "logdest = stdout\n")
	s.expect("nothing new", s.reloads(), "")
	s.write("holdtime = 0\nsvcnode_peers = 192.0.2.1\nlearning = on\nmonitor = 1\n")
	want := "warning: FILE:4: monitor: no longer needed\n" +
		"error: FILE:1: holdtime: 0 is out of range 1..65535 (remove the line to get the default, 90)\n" +
		"error: FILE:3: learning: \"on\" is none of off, known, any (remove the line to get the default, any)\n"
	s.expect("wrong", s.reloads(), want)
	s.logs("FILE:1: holdtime: 0 is out of range"[4:])

	s.write("logdest = stdout\n" + strings.Repeat("x\n", 100))
	got := s.reloads()
	if n := strings.Count(got, "error: "); n != maxProblemLines+1 || !strings.HasSuffix(got, "error: 68 more problems (vxsnd -t with the flags of the daemon tells all)\n") {
		t.Errorf("got %d errors, %q, want %d and one that counts 68", n, got, maxProblemLines)
	}

	if err := os.Remove(s.file); err != nil {
		t.Fatal(err)
	}
	s.expect("no file", s.reloads(), "error: FILE: no such file or directory (put the file back, or restart to go on with the defaults)\n")

	s.write("logdest = stdout\nmonitor = 1\nsvcnode_peers = 192.0.2.1\nvtep_membership = 192.0.2.1 5\n")
	s.expect("with warnings", s.reloads(), "+ vtep_membership none 192.0.2.1 5\n+ svcnode_peers none 192.0.2.1:10001\n"+
		"warning: FILE:2: monitor: no longer needed\n"+
		"warning: FILE:4: vtep_membership: 192.0.2.1 gets no copies, since it is a peer (svcnode_peers): change one of the two\n")
	// What was said is not said again.
	s.expect("set", s.set("holdtime", "5"), "+ holdtime 90 5\n")
	s.expect("set with a warning", s.set("area", "1"), "+ area none 1\nwarning: area: has no effect in this version\n")
}

// Many who ask at once are served in turn, and those who come too late are told.
func TestDemandsWaitTheirTurn(t *testing.T) {
	s := newSteered(t, "run", "logdest = stdout\n")
	var wg sync.WaitGroup
	for i := range 20 {
		wg.Go(func() {
			switch i % 3 {
			case 0:
				s.set("holdtime", "5")
			case 1:
				s.reloads()
			default:
				s.debug(i%2 == 0)
			}
		})
	}
	wg.Wait()
	s.reloads()
	s.expect("holdtime", s.value("holdtime"), "90")
	s.stop()
	if _, err := s.ask(t.Context(), demand{do: nil}); !errors.Is(err, errStopping) {
		t.Errorf("got %v of a daemon that has stopped, want %v", err, errStopping)
	}
}
