/*
** client.h - a client of dqlite's wire protocol: requests of SQL and of membership, on one connection
**
** A message is its body's length in words of 8 bytes (u32), its type (u8), a schema (u8), 16 bits of 0, and the body.
** All numbers are little-endian; a text ends with zeros up to a multiple of 8. Functions return 0, dqlite's error,
** which is an SQLite code or one of those below, or CLIENT_LOST; client->error has the text.
*/
#ifndef CLUSTER_CLIENT_H
#define CLUSTER_CLIENT_H

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

enum {
  CLIENT_LOST = -1, /* the connection, or the patience: nothing is known of the request */
  CLIENT_NOT_LEADER = 10250,
  CLIENT_LEADERSHIP_LOST = 10506, /* the request may have been carried out, or may yet be */
};

typedef struct client {
  int socket; /* -1: none */
  char error[200];
} client;

enum { REQUEST_LEADER = 0, REQUEST_OPEN = 3, REQUEST_EXEC = 8, REQUEST_QUERY = 9, REQUEST_ADD = 12 };
enum { REQUEST_ASSIGN = 13, REQUEST_TRANSFER = 17, ROLE_VOTER = 0 };

static inline void client_close(client *c) {
  if (c->socket >= 0)
    close(c->socket);
  c->socket = -1;
}

static inline int client_lost(client *c, const char *why) {
  client_close(c);
  snprintf(c->error, sizeof c->error, "%s", why);
  return CLIENT_LOST;
}

static inline uint64_t
client_word(const uint8_t *at) { /* on machines that are little-endian, as those dqlite runs on */
  uint64_t word;
  memcpy(&word, at, 8);
  return word;
}

/* Appends to a body; returns the end. */
static inline uint8_t *client_put_word(uint8_t *to, uint64_t word) {
  memcpy(to, &word, 8);
  return to + 8;
}
static inline uint8_t *client_put_text(uint8_t *to, const char *text) {
  size_t size = strlen(text), padded = size / 8 * 8 + 8;
  memset(to, 0, padded);
  memcpy(to, text, size);
  return to + padded;
}

static inline bool client_read(client *c, uint8_t *to, size_t size) {
  for (size_t at = 0; at < size;) {
    ssize_t n = recv(c->socket, to + at, size - at, 0);
    if (n <= 0)
      return false;
    at += (size_t)n;
  }
  return true;
}

/* Reads an answer; its body is the caller's to free. */
static inline int client_receive(client *c, uint8_t **body) {
  uint8_t head[8];
  uint32_t words;
  if (!client_read(c, head, sizeof head))
    return client_lost(c, "no answer");
  memcpy(&words, head, 4);
  uint8_t *bytes = malloc((size_t)words * 8 + 8);
  if (bytes == NULL || !client_read(c, bytes, (size_t)words * 8)) {
    free(bytes);
    return client_lost(c, "half an answer");
  }
  if (head[4] != 0) {
    *body = bytes;
    return 0;
  }
  int code = (int)client_word(bytes); /* an error, and its text */
  snprintf(c->error, sizeof c->error, "%.*s", (int)(words * 8 - 8), (const char *)bytes + 8);
  free(bytes);
  return code;
}

static inline int client_send(client *c, uint8_t type, const uint8_t *body, size_t size) {
  uint32_t words = (uint32_t)(size / 8);
  uint8_t head[8] = {0, 0, 0, 0, type};
  memcpy(head, &words, 4);
  if (c->socket < 0 || send(c->socket, head, sizeof head, MSG_NOSIGNAL | MSG_MORE) != sizeof head ||
      send(c->socket, body, size, MSG_NOSIGNAL) != (ssize_t)size)
    return client_lost(c, "the connection is gone");
  return 0;
}

static inline int client_call(client *c, uint8_t type, const uint8_t *body, size_t size, uint8_t **answer) {
  int code = client_send(c, type, body, size);
  return code == 0 ? client_receive(c, answer) : code;
}

static inline int client_tell(client *c, uint8_t type, const uint8_t *body, const uint8_t *end) {
  uint8_t *answer = NULL;
  int code = client_call(c, type, body, (size_t)(end - body), &answer);
  free(answer);
  return code;
}

/* Connects to a port of this machine. Answers are waited for so many seconds. */
static inline int client_connect(client *c, int port, int seconds) {
  const struct sockaddr_in address = {
      .sin_family = AF_INET, .sin_port = htons((uint16_t)port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  const struct timeval patience = {seconds, 0};
  const int on = 1;
  uint8_t version[8];
  client_put_word(version, 1);
  c->error[0] = 0;
  c->socket = socket(AF_INET, SOCK_STREAM, 0);
  setsockopt(c->socket, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
  setsockopt(c->socket, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  if (connect(c->socket, (const struct sockaddr *)&address, sizeof address) != 0 ||
      send(c->socket, version, sizeof version, MSG_NOSIGNAL) != sizeof version)
    return client_lost(c, "cannot connect");
  return 0;
}

/* The leader's ID as this node sees it; 0: it knows of none. */
static inline int client_leader(client *c, uint64_t *id) {
  uint8_t body[8], *answer = NULL;
  client_put_word(body, 0);
  int code = client_call(c, REQUEST_LEADER, body, sizeof body, &answer);
  if (code == 0)
    *id = client_word(answer);
  free(answer);
  return code;
}

static inline int client_open(client *c, const char *name) {
  uint8_t body[64];
  uint8_t *end = client_put_text(client_put_word(client_put_text(body, name), 0), "volatile");
  return client_tell(c, REQUEST_OPEN, body, end);
}

static inline int client_add(client *c, uint64_t id, const char *address) {
  uint8_t body[64];
  int code = client_tell(c, REQUEST_ADD, body, client_put_text(client_put_word(body, id), address));
  if (code == 0)
    code = client_tell(c, REQUEST_ASSIGN, body, client_put_word(client_put_word(body, id), ROLE_VOTER));
  return code;
}

static inline int client_transfer(client *c, uint64_t id) {
  uint8_t body[8];
  return client_tell(c, REQUEST_TRANSFER, body, client_put_word(body, id));
}

static inline size_t client_put_sql(uint8_t **body, const char *sql) {
  *body = malloc(strlen(sql) + 32);
  if (*body == NULL)
    abort();
  return (size_t)(client_put_word(client_put_text(client_put_word(*body, 0), sql), 0) - *body);
}

/* Sends statements without parameters that give no rows; what comes of them is what client_finish returns. */
static inline int client_start(client *c, const char *sql) {
  uint8_t *body;
  size_t size = client_put_sql(&body, sql);
  int code = client_send(c, REQUEST_EXEC, body, size);
  free(body);
  return code;
}
static inline int client_finish(client *c) {
  uint8_t *answer = NULL;
  int code = c->socket < 0 ? CLIENT_LOST : client_receive(c, &answer);
  free(answer);
  return code;
}
static inline int client_exec(client *c, const char *sql) {
  int code = client_start(c, sql);
  return code == 0 ? client_finish(c) : code;
}

/* Runs a query whose one row is one integer. */
static inline int client_number(client *c, const char *sql, int64_t *number) {
  uint8_t *body, *answer = NULL;
  size_t size = client_put_sql(&body, sql);
  int code = client_call(c, REQUEST_QUERY, body, size, &answer);
  free(body);
  if (code != 0)
    return code;
  const uint8_t *at = answer + 8; /* the number of columns; then their names, and the row behind its types */
  at += strlen((const char *)at) / 8 * 8 + 8;
  bool fine = client_word(answer) == 1 && (*at & 15) == 1;
  *number = (int64_t)client_word(at + 8);
  free(answer);
  return fine ? 0 : client_lost(c, "the answer is no integer");
}

#endif
