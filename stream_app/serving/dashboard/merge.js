// Every worker's own account, as one of the group.

const SAMPLES = 60;

/** Sums of lists that end at the same moment, newest last. */
function added(lists) {
  const sums = new Array(Math.max(0, ...lists.map((list) => list.length))).fill(0);
  for (const list of lists) {
    list.forEach((value, at) => {
      sums[sums.length - list.length + at] += value;
    });
  }
  return sums.slice(-SAMPLES);
}

function sum(statuses, of) {
  return statuses.reduce((total, status) => total + of(status), 0);
}

function rates(statuses) {
  const of = (name) => added(statuses.map((status) => status.rates[name]));
  return {
    interval_s: statuses[0]?.rates.interval_s || 1,
    events: of("events_per_s"),
    updates: of("updates_per_s"),
    deadLetters: of("dead_letters_per_s"),
  };
}

/** Percentiles do not add up, so of several workers the slowest counts. */
function latency(statuses) {
  const stages = new Map();
  for (const row of statuses.flatMap((status) => status.latency)) {
    const known = stages.get(row.stage);
    stages.set(row.stage, {
      stage: row.stage,
      count: row.count + (known?.count ?? 0),
      p50_ms: Math.max(row.p50_ms, known?.p50_ms ?? 0),
      p99_ms: Math.max(row.p99_ms, known?.p99_ms ?? 0),
    });
  }
  return [...stages.values()].filter((row) => row.count > 0);
}

function deadLetters(statuses) {
  const byReason = new Map();
  for (const status of statuses) {
    for (const [reason, number] of Object.entries(status.dead_letters.by_reason)) {
      byReason.set(reason, number + (byReason.get(reason) ?? 0));
    }
  }
  return {
    total: sum(statuses, (status) => status.dead_letters.total),
    byReason: [...byReason].sort((one, other) => other[1] - one[1]),
    last: statuses
      .flatMap((status) => status.dead_letters.last)
      .sort((one, other) => other.time_ms - one.time_ms)
      .slice(0, 20),
  };
}

function recovery(statuses) {
  const since = statuses.map((status) => status.recovery.since_ms).filter((ms) => ms !== null);
  return {
    active: statuses.some((status) => status.recovery.active),
    since_ms: since.length ? Math.min(...since) : null,
    remaining: statuses
      .flatMap((status) => Object.entries(status.recovery.remaining))
      .map(([partition, left]) => [Number(partition), left])
      .sort((one, other) => one[0] - other[0]),
  };
}

/** What /v1/workers answers, as one account; `silent` are those that gave none. */
export function merged({ workers }) {
  const statuses = workers.map((worker) => worker.status).filter((status) => status !== null);
  return {
    workers,
    silent: workers.filter((worker) => worker.status === null),
    time_ms: Math.max(0, ...statuses.map((status) => status.time_ms)),
    rates: rates(statuses),
    lag: sum(statuses, (status) => status.lag),
    latency: latency(statuses),
    deadLetters: deadLetters(statuses),
    recovery: recovery(statuses),
    usersHot: sum(statuses, (status) => status.users_hot),
    partitions: sum(statuses, (status) => status.partitions.length),
    itemsKnown: Math.max(0, ...statuses.map((status) => status.items_known)),
    models: [...new Set(statuses.map((status) => status.model?.model_id).filter(Boolean))],
    versions: [...new Set(statuses.map((status) => status.version))],
  };
}
