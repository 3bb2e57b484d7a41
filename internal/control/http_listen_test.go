// SPDX-License-Identifier: Apache-2.0

package control_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"vxsnd/internal/control"
)

func TestTheUnixSocketOfMetrics(t *testing.T) {
	path := filepath.Join(mkdir(t), "m")
	stale(t, path)
	s := serveHTTP(t, control.HTTPOptions{Address: path}, nil)
	wantMode(t, path)
	s.visit(t).served(t)
	if s.Addr() != path {
		t.Errorf("got %q, want %q", s.Addr(), path)
	}
	err := control.NewHTTP(control.HTTPOptions{Address: path}).Listen()
	if want := fmt.Sprintf("listen %s: process %d serves it", path, os.Getpid()); err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
	wantGiven(t, path, s.Chown)
	s.stop()
	if _, err := os.Lstat(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("got %v, want no file", err)
	}
}

func TestAnAddressInUseIsNamed(t *testing.T) {
	s := serveHTTP(t, control.HTTPOptions{}, nil)
	if err := s.Chown(12345, 23456); err != nil {
		t.Errorf("chown: got %v, want nil", err)
	}
	err := control.NewHTTP(control.HTTPOptions{Address: s.Addr()}).Listen()
	if want := "listen " + s.Addr() + ": address already in use"; !errors.Is(err, syscall.EADDRINUSE) || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
}

func TestMetricsThatNeverRun(t *testing.T) {
	for _, address := range []string{"127.0.0.1:0", filepath.Join(t.TempDir(), "m")} {
		h := control.NewHTTP(control.HTTPOptions{Address: address, Metrics: figures})
		if err := h.Close(); err != nil {
			t.Errorf("close before listen: got %v, want nil", err)
		}
		if err := h.Listen(); err != nil {
			t.Fatal(err)
		}
		for range 2 {
			if err := h.Close(); err != nil {
				t.Errorf("got %v, want nil", err)
			}
		}
		ended, cancel := context.WithCancel(context.Background())
		cancel()
		h = control.NewHTTP(control.HTTPOptions{Address: address, Metrics: figures})
		if err := h.Listen(); err != nil {
			t.Fatal(err)
		}
		if err := h.Run(ended); err != nil {
			t.Errorf("got %v, want nil", err)
		}
	}
}
