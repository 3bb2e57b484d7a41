// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"encoding/json"
	"path/filepath"
	"strings"
	"testing"

	"vxsnd/internal/config"
	"vxsnd/internal/control"
)

// A service node takes over what is set, reloaded and asked for, as a fake does.
func TestSteerAServiceNode(t *testing.T) {
	at := filepath.Join(t.TempDir(), "m")
	text := "logdest = stdout\nno_flood = yes\nsrc_ip = 127.0.0.1\nsvcnode_ip = 127.0.0.1\nmax_entries = 100\nvxfld_port = " + freePort(t) + "\n"
	s := newSteered(t, "node", text)
	if !waitFor(func() bool { return s.readiness() == nil }) {
		t.Fatal("got no node that is ready")
	}
	status := func() (st control.Status) {
		t.Helper()
		data, err := s.call(control.CommandShow, nil)
		if err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(data, &st); err != nil {
			t.Fatal(err)
		}
		return st
	}
	s.expect("metrics at the start", status().MetricsListen, "")
	s.expect("serve metrics", s.set("metrics_listen", at), "+ metrics_listen none "+at+"\n")
	s.expect("metrics", status().MetricsListen, at)
	s.expect("readyz", get(t, at, "/readyz"), "200 ok")
	scrape := get(t, at, "/metrics")
	for _, want := range []string{"200 ", "\nvxsnd_build_info{", "\nvxsnd_ready 1\n", "\nvxsnd_table_max_entries 100\n", "\ngo_goroutines "} {
		if !strings.Contains(scrape, want) {
			t.Errorf("got no %q in\n%s", want, scrape)
		}
	}

	s.expect("another bound", s.set("max_entries", "50"), "+ max_entries 100 50\n")
	if scrape := get(t, at, "/metrics"); !strings.Contains(scrape, "\nvxsnd_table_max_entries 50\n") {
		t.Errorf("got no bound of 50 in\n%s", scrape)
	}
	// What the node refuses changes nothing.
	s.write(strings.Replace(text, "max_entries = 100", "max_entries = 2", 1) + "vtep_membership = 192.0.2.5 1 2 3\n")
	if got := s.reloads(); !strings.HasPrefix(got, "error: ") {
		t.Errorf("got %q, want a table without room to be refused", got)
	}
	s.expect("still set", s.value("max_entries"), "50*")
	s.write(text + "vtep_membership = 192.0.2.5 1 2 3\n")
	s.expect("reload", s.reloads(), "+ vtep_membership none 192.0.2.5 1 2 3\n+ max_entries 50 100\n+ metrics_listen "+at+" none\n")
	if st := status(); st.Entries != 3 || st.MetricsListen != "" {
		t.Errorf("got %d entries and metrics at %q, want 3 and none", st.Entries, st.MetricsListen)
	}
	s.expect("debug", s.debug(true), "+ loglevel info debug\n")
	s.expect("debug off", s.debug(false), "+ loglevel debug info\n")
}

// A registration daemon has no metrics, and takes what is its own.
func TestSettableOptionsOfVxrd(t *testing.T) {
	d := &daemon{input: config.Input{Program: config.Vxrd, File: "/etc/vxrd.conf"}}
	for name, want := range map[string]string{
		"holdtime": "", "stale_time": "", "metrics_listen": `"metrics_listen" is not an option of vxrd`, "head_rep": "head_rep needs a restart",
	} {
		got := ""
		if _, err := d.settable(name); err != nil {
			got = err.Error()
		}
		if got != want {
			t.Errorf("%s: got %q, want %q", name, got, want)
		}
	}
}
