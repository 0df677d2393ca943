// What is new, over the WebSocket (app/web/websocket/push.py has its messages): connects again when it breaks, later each
// time, and when nothing came for so long that it must be dead: the server sends something each second.

const SILENT_MS = 20000, LONGEST_WAIT_MS = 15000;

export class Live {
  // `receive(message)` gets each message; `changed(connected, again)` is called when the connection opens and closes.
  constructor(receive, changed = () => {}) {
    this.receive = receive;
    this.changed = changed;
    this.socket = null;
    this.retries = 0;
    this.began = false;    // whether it was connected before
    this.parameters = {};  // of the address: filters
    this.cursor = null;    // where to go on, where the server gives one
    this.watched = null;   // the last thing sent, sent again after a reconnect
  }

  get connected() {
    return this.socket?.readyState === WebSocket.OPEN;
  }

  connect() {
    const address = new URL("ws", location.href);
    address.protocol = address.protocol === "https:" ? "wss:" : "ws:";
    address.search = new URLSearchParams({ ...this.parameters, ...(this.cursor ? { cursor: this.cursor } : {}) });
    const socket = this.socket = new WebSocket(address);
    socket.addEventListener("open", () => {
      const again = this.began;
      this.retries = 0;
      this.began = true;
      this.heard();
      if (this.watched) socket.send(this.watched);
      this.changed(true, again);
    });
    socket.addEventListener("message", (event) => {
      this.heard();
      const message = JSON.parse(event.data);
      if (message.cursor) this.cursor = message.cursor;
      this.receive(message);
    });
    socket.addEventListener("close", () => this.lost(socket));
  }

  lost(socket) {
    if (socket !== this.socket) return;
    clearTimeout(this.silence);
    this.socket = null;
    if (this.retries === 0) this.changed(false, false);
    this.retries += 1;
    setTimeout(() => this.connect(), Math.min(1000 * 2 ** (this.retries - 1), LONGEST_WAIT_MS) * (0.75 + Math.random() / 2));
  }

  heard() {
    clearTimeout(this.silence);
    const socket = this.socket;
    this.silence = setTimeout(() => { socket?.close(); this.lost(socket); }, SILENT_MS);
  }

  // The series whose points are wanted, {source, metric}; null: of none.
  watch(series) {
    this.watched = JSON.stringify(series ? { watch: series.source, metric: series.metric ?? "" } : { watch: null });
    if (this.connected) this.socket.send(this.watched);
  }
}
