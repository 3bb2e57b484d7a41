// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"vxsnd/internal/control"
)

// TestStreamsEndWhenTheyAreInterrupted interrupts what has no end.
func TestStreamsEndWhenTheyAreInterrupted(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	left := make(chan struct{}, 8) // more than there are streams
	noted := func(c control.Command) control.Command {
		run := c.Run
		c.Run = func(ctx context.Context, call *control.Call) error {
			defer func() { left <- struct{}{} }()
			return run(ctx, call)
		}
		return c
	}
	stop, err := serveControl(path, append(cannedCommands(cannedStatus(), nil, nil, 1),
		noted(streaming(control.CommandMonitor, errGoesOn, []control.MembershipEvent{}, cannedEvents())),
		noted(streaming(control.CommandCapture, errGoesOn, captureEvents()...))))
	if err != nil {
		t.Fatal(err)
	}
	defer stop()
	file := filepath.Join(t.TempDir(), "f.pcapng")
	for _, tt := range []struct {
		name   string
		args   []string
		last   string // of what is printed, which comes twice
		signal os.Signal
		stderr string
	}{
		{"monitor", []string{"monitor"}, "lost", syscall.SIGINT, ""},
		{"monitor in JSON", []string{"monitor", "--json"}, "lost", syscall.SIGTERM, ""},
		{"capture", []string{"capture", "100"}, "no copies", syscall.SIGINT, "vxsndctl: 6 packets captured, 7 not\n"},
		{"capture to a pipe", []string{"capture", "100", "-w", "-"}, "no copies", syscall.SIGINT, "vxsndctl: 6 packets captured, 7 not\n"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			cmd := exec.Command("vxsndctl", append(tt.args, "-u", path)...)
			cmd.Env = append(os.Environ(), "GORACE="+noRaceSleep)
			var problems bytes.Buffer
			cmd.Stderr = &problems
			out, err := cmd.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			defer cmd.Process.Kill()
			b := make([]byte, 4096)
			for text := ""; err == nil && strings.Count(text, tt.last) < 2; {
				n := 0
				n, err = out.Read(b)
				text += string(b[:n])
			}
			if err != nil {
				t.Error(err)
			}
			_ = cmd.Process.Signal(tt.signal)
			<-left
			if err := cmd.Wait(); err != nil {
				t.Errorf("got %v, want status 0: %s", err, &problems)
			}
			if !strings.HasSuffix(problems.String(), tt.stderr) {
				t.Errorf("got %q, want %q at the end", &problems, tt.stderr)
			}
		})
	}
	t.Run("capture to a file", func(t *testing.T) {
		cmd := exec.Command("vxsndctl", "capture", "100", "-u", path, "-w", file)
		cmd.Env = append(os.Environ(), "GORACE="+noRaceSleep)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		defer cmd.Process.Kill()
		// The file is whole at each moment.
		if !waitFor(func() bool {
			b, err := os.ReadFile(file)
			return err == nil && bytes.Count(b, []byte("no copies")) == 2
		}) {
			t.Error("got no packets in the file")
		}
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if _, packets := readPackets(t, b); len(packets) != 6 {
			t.Errorf("got %d packets, want 6", len(packets))
		}
		_ = cmd.Process.Signal(syscall.SIGINT)
		<-left
		if err := cmd.Wait(); err != nil {
			t.Errorf("got %v, want status 0", err)
		}
		if b, err = os.ReadFile(file); err != nil {
			t.Fatal(err)
		}
		r, packets := readPackets(t, b)
		if face, err := r.Interface(0); err != nil || face.Statistics.PacketsDropped != 7 || len(packets) != 6 {
			t.Errorf("got %d packets and %+v, %v, want 6, and 7 missing", len(packets), face, err)
		}
	})
}
