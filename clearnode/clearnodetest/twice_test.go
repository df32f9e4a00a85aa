package clearnodetest

import "testing"

func TestCloseTwice(t *testing.T) {
	n := start(t, Config{})
	id := open(t, n, 1)
	if err := n.CloseTwice(id, rows("7", "7")); err == nil {
		t.Error("closed with less than is in it")
	}
	if err := n.CloseTwice(id, rows("7", "8")); err != nil {
		t.Fatal(err)
	}
	if s := wantStatus(t, n, id, "closed"); s.Closes != 2 || len(s.Payouts) != 4 {
		t.Errorf("session %+v", s)
	}
	wantChecked(t, n, "closed 2 times", "paid out 30 of 15 usdc", "-10 usdc of "+playerA+" left", "-5 usdc of "+playerB+" left")
	if err := n.CloseTwice(id, rows("7", "8")); err == nil {
		t.Error("closed what is closed")
	}
}
