// SPDX-License-Identifier: Apache-2.0

package control_test

import (
	"context"
	"os"
	"path/filepath"
	"testing"

	"github.com/sirupsen/logrus"
	logtest "github.com/sirupsen/logrus/hooks/test"

	"vxsnd/internal/control"
)

const changeIt = `{"version":1,"command":"change_it"}` + "\n"

// A guarded is a server with a command that changes something, and a socket that
// every user may connect to.
type guarded struct {
	*harness
	server *control.Server
	logs   *logtest.Hook
}

func newGuarded(t *testing.T) *guarded {
	t.Helper()
	log, logs := logtest.NewNullLogger()
	g := &guarded{logs: logs}
	done := func(_ context.Context, call *control.Call) error { return call.Send("done") }
	o := control.Options{Path: filepath.Join(mkdir(t), "s"), Log: log, Commands: append(commands(),
		control.Command{Name: "change_it", Changes: true, Run: done},
		control.Command{Name: "load", Changes: true, Upload: true, Run: done},
		control.Command{Name: "follow", Changes: true, Stream: true, Run: done})}
	g.harness = start(t, o, func(s *control.Server) { g.server = s })
	if err := os.Chmod(g.path, 0o666); err != nil {
		t.Fatal(err)
	}
	return g
}

func (r raw) changes(t *testing.T) {
	t.Helper()
	r.say(t, changeIt)
	r.want(t, `{"version":1,"data":"done"}`)
	r.want(t, end)
}

func TestChangesAreLoggedWithWhoMadeThem(t *testing.T) {
	g := newGuarded(t)
	r := g.raw(t)
	r.served(t)
	r.changes(t)
	r.changes(t)
	entries := g.logs.AllEntries()
	if len(entries) != 2 {
		t.Fatalf("got %d lines, want 2", len(entries))
	}
	f := entries[1].Data
	if entries[1].Level != logrus.InfoLevel || f["uid"] != uint32(os.Geteuid()) || f["pid"] != int32(os.Getpid()) || f["command"] != "change_it" {
		t.Errorf("got %v, want user, process and command", f)
	}
}

func TestOnlyRootAndTheOwnerMakeChanges(t *testing.T) {
	needRoot(t)
	g := newGuarded(t)
	root := g.raw(t)
	root.changes(t)
	var nobody, upload, stream raw
	asNobody(t, func() { nobody, upload, stream = g.raw(t), g.raw(t), g.raw(t) })

	// Who has connected counts, not who has the connection now.
	nobody.say(t, changeIt)
	nobody.want(t, `{"version":1,"error":{"code":"permission","text":"change it is for root and the owner of the socket","hint":"use sudo"}}`)
	nobody.served(t)
	stream.say(t, `{"version":1,"command":"follow"}`+"\n")
	stream.wantCode(t, control.CodePermission)
	stream.served(t)
	upload.say(t, load)
	upload.wantCode(t, control.CodePermission)
	upload.wantEnd(t)

	// The owner of the file may, as soon as that is who has connected.
	if err := g.server.Chown(65534, -1); err != nil {
		t.Fatal(err)
	}
	nobody.changes(t)
	root.changes(t)
	if err := g.server.Chown(12345, -1); err != nil {
		t.Fatal(err)
	}
	nobody.say(t, changeIt)
	nobody.wantCode(t, control.CodePermission)

	// So may the user that the daemon has become.
	asNobody(t, func() { nobody.changes(t) })
	nobody.say(t, changeIt)
	nobody.wantCode(t, control.CodePermission)

	if n := len(g.logs.AllEntries()); n != 5 {
		t.Errorf("got %d lines, want 4 of changes and one of what was refused", n)
	}
}
