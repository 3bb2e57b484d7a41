// SPDX-License-Identifier: Apache-2.0

package headend

// live returns the lines of all entries that are own, or may be.
func (l *Lists) live() []byte {
	l.mu.Lock()
	defer l.mu.Unlock()
	var lines []byte
	for _, li := range l.lists {
		lines = appendLines(lines, '+', li.key, union(li.own, li.unsure))
	}
	return lines
}

// forget writes lines about what is not own any more.
func (l *Lists) forget(lines []byte) {
	if err := l.journal.forget(lines); err != nil {
		l.brokenBy(err)
	}
}

// compact makes the journal say nothing but what is own.
func (l *Lists) compact() {
	if err := l.journal.compact(l.live()); err != nil {
		l.brokenBy(err)
		return
	}
	l.mended()
}

// brokenBy logs, once, that the journal cannot be written.
func (l *Lists) brokenBy(err error) {
	if !l.broken {
		l.broken = true
		l.log.WithError(err).Warn("state file cannot be written: no flood entries are added until it can")
	}
}

// mended logs that the journal can be written again.
func (l *Lists) mended() {
	if l.broken {
		l.broken = false
		l.log.Info("state file can be written again")
	}
}

// checkFile brings the journal in order: it may be behind, or somebody may have
// removed it.
func (l *Lists) checkFile() {
	if !l.journal.named() {
		j, err := openJournal(l.journal.o, true)
		if err != nil {
			l.warn("file", "state file was removed: flood entries will stay after a restart", err, nil)
			return
		}
		l.log.Warn("state file was removed: made again")
		_ = l.journal.close()
		l.journal = j
		l.journal.behind = true
	}
	if l.journal.behind {
		l.compact()
	}
}
