// PATCH /api/workers/:id/heartbeat as the worker integration plan writes its services: find, then update.
import express from "express";
import { PrismaPg } from "@prisma/adapter-pg";
import { PrismaClient } from "./generated/client.js";

const prisma = new PrismaClient({
  adapter: new PrismaPg({ connectionString: process.env.DATABASE_URL }),
});

const recordHeartbeat = async (id, { cpuUsage, memoryUsage, diskUsage, currentPods }) => {
  const existingWorker = await prisma.workerNode.findUnique({ where: { id } });
  if (!existingWorker) {
    throw new Error("Worker not found");
  }
  return prisma.workerNode.update({
    where: { id: existingWorker.id },
    data: {
      cpuUsage,
      memoryUsage,
      diskUsage,
      currentPods,
      status: "ACTIVE",
      isReady: true,
      isSchedulable: true,
      lastHeartbeat: new Date(),
      lastHealthCheck: new Date(),
      updatedAt: new Date(),
    },
  });
};

const app = express();
app.use(express.json());
app.patch("/api/workers/:id/heartbeat", async (req, res) => {
  try {
    const worker = await recordHeartbeat(req.params.id, req.body);
    res.status(200).json({ success: true, message: "Heartbeat received", data: { workerId: worker.id } });
  } catch (error) {
    res
      .status(error.message === "Worker not found" ? 404 : 500)
      .json({ success: false, message: error.message });
  }
});

const server = app.listen(Number(process.env.PORT), "127.0.0.1");
server.keepAliveTimeout = 90_000;
