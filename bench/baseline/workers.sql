-- What `prisma migrate` makes of schema.prisma, and a fleet of :count workers in it.
CREATE TYPE "WorkerStatus" AS ENUM ('PENDING', 'ACTIVE', 'INACTIVE', 'MAINTENANCE', 'NOT_READY');

CREATE TABLE "worker_nodes" (
    "id" TEXT NOT NULL,
    "name" TEXT NOT NULL,
    "hostname" TEXT NOT NULL,
    "ipAddress" TEXT NOT NULL,
    "status" "WorkerStatus" NOT NULL DEFAULT 'PENDING',
    "isReady" BOOLEAN NOT NULL DEFAULT false,
    "isSchedulable" BOOLEAN NOT NULL DEFAULT false,
    "cpuCores" INTEGER NOT NULL,
    "cpuArchitecture" TEXT,
    "totalMemory" TEXT,
    "totalStorage" TEXT,
    "architecture" TEXT,
    "operatingSystem" TEXT,
    "kernelVersion" TEXT,
    "osImage" TEXT,
    "cpuUsage" DOUBLE PRECISION NOT NULL DEFAULT 0,
    "memoryUsage" DOUBLE PRECISION NOT NULL DEFAULT 0,
    "diskUsage" DOUBLE PRECISION NOT NULL DEFAULT 0,
    "currentPods" INTEGER NOT NULL DEFAULT 0,
    "maxPods" INTEGER NOT NULL DEFAULT 110,
    "lastHeartbeat" TIMESTAMP(3),
    "lastHealthCheck" TIMESTAMP(3),
    "createdAt" TIMESTAMP(3) NOT NULL DEFAULT CURRENT_TIMESTAMP,
    "updatedAt" TIMESTAMP(3) NOT NULL,
    CONSTRAINT "worker_nodes_pkey" PRIMARY KEY ("id")
);
CREATE UNIQUE INDEX "worker_nodes_name_key" ON "worker_nodes"("name");
CREATE UNIQUE INDEX "worker_nodes_hostname_key" ON "worker_nodes"("hostname");
CREATE UNIQUE INDEX "worker_nodes_ipAddress_key" ON "worker_nodes"("ipAddress");

INSERT INTO "worker_nodes" ("id", "name", "hostname", "ipAddress", "status", "cpuCores", "cpuArchitecture", "totalMemory",
    "totalStorage", "architecture", "operatingSystem", "kernelVersion", "osImage", "lastHeartbeat", "updatedAt")
SELECT 'c' || substr(md5(n::text), 1, 24), 'worker-' || n, 'worker-' || n, '10.' || n / 65536 || '.' || n / 256 % 256 || '.' || n % 256,
    'ACTIVE', 8, 'AMD EPYC 7543 32-Core Processor', '31Gi', '468G', 'amd64', 'Debian GNU/Linux 12 (bookworm)', '6.1.0-31-amd64',
    'Debian GNU/Linux 12 (bookworm)', now(), now()
FROM generate_series(0, :count - 1) AS n;
ANALYZE "worker_nodes";
