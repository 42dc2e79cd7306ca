# ruff: noqa
# mypy: ignore-errors
"""grouped_search.py BEFORE AFTER: two source folders in alternation on one core; judging an image with `fast`, encoding 8 crops,
searching an image's codes: milliseconds of processor time, medians, and the median ratio."""
import subprocess,sys,statistics,json
code='''
import torch,time,sys
torch.set_num_threads(int(sys.argv[1]))
from subspect.detectors.dsr.config import PRESETS
from subspect.detectors.dsr.model import Dsr
from subspect.detectors.dsr.latent_weights import load_latent_model
c=PRESETS['fast']; d=Dsr(c); d.adopt_latent_model(*load_latent_model(None,c.latent)); d.eval().to(memory_format=torch.channels_last)
x=torch.rand(1,3,256,256).contiguous(memory_format=torch.channels_last)
l=d.latent_model.encode(x)
y=torch.rand(8,3,128,128).contiguous(memory_format=torch.channels_last)
print('ready',flush=True)
for line in sys.stdin:
    r=[]
    with torch.inference_mode():
        for f in (lambda:d(x), lambda:d.latent_model.encode(y), lambda:(d.latent_model.low_codebook(l.low),d.latent_model.high_codebook(l.high))):
            t=time.process_time(); [f() for _ in range(5)]; r.append((time.process_time()-t)/5*1e3)
    print(*r,flush=True)
'''
ps=[subprocess.Popen([sys.executable,'-c',code,'1'],stdin=subprocess.PIPE,stdout=subprocess.PIPE,text=True,env={'PYTHONPATH':p,'OMP_NUM_THREADS':'1','PATH':'/usr/bin'}) for p in sys.argv[1:3]]
for p in ps: p.stdout.readline()
R=[[],[]]
for k in range(12):
    for i,p in enumerate(ps):
        p.stdin.write('go\n');p.stdin.flush(); v=list(map(float,p.stdout.readline().split()))
        if k>1: R[i].append(v)
for j,n in enumerate(('judge','encode 8 crops','search')):
    a=[r[j] for r in R[0]];b=[r[j] for r in R[1]]
    print(n, statistics.median(a), statistics.median(b), statistics.median(x/y for x,y in zip(a,b)))
