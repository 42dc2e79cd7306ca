# ruff: noqa
# mypy: ignore-errors
"""trust.py DEMO…: pixel AP of holes and stains of the demo's fabric, by the share of the learnt correction that counts."""
import sys, numpy as np, torch, glob
from pathlib import Path
torch.set_num_threads(1)
import subspect.detectors.dsr.light_modules as LM
from subspect.storage import load_detector
from subspect.images import read_image
from sklearn.metrics import average_precision_score
import torch.nn.functional as F
from PIL import Image
for root in sys.argv[1:]:
    base=Path(root); d=load_detector(base/"fabric/detector").eval()
    surf=base/"surfaces" if (base/"surfaces").exists() else Path("demo/surfaces")
    test=surf/"fabric/test"; rows=[]
    xs=[];ms=[]
    for kind in ("good","hole","stain"):
        for p in sorted((test/kind).glob("*.png")):
            xs.append(d.prepare(read_image(p))); g=surf/"fabric/ground_truth"/kind/(p.stem+"_mask.png")
            m=np.zeros((256,256),bool) if kind=="good" else np.asarray(Image.open(g).convert("L").resize((256,256),Image.NEAREST))>127
            ms.append(m)
    y=np.stack(ms)
    for t in (0.,.5,1.):
        LM._TRUST=t; maps=[]
        with torch.no_grad():
            for i in range(0,len(xs),6): maps.append(d(torch.stack(xs[i:i+6])).anomaly_map[:,0].numpy())
        mp=np.concatenate(maps); print(root,t,round(100*average_precision_score(y.ravel()[::2],mp.ravel()[::2]),1),flush=True)
